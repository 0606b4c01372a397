//! One attempt to publish one window: writes its rows and dead letters, and counts what its records became. An attempt that
//! fails may have written some of them; [`Attempt::transact`] aborts those.

use std::time::Instant;

use super::offsets::Transaction;
use super::{DeliveryError, EncodedWindow};
use crate::record::{Block, DeadLetter, Position, Settled};
use crate::sink::{BlockRows, DeadLetterSink, Sink, WindowRows};
use crate::telemetry::events;

/// One attempt to publish one window.
pub struct Attempt<'a> {
    pub(super) sink: &'a mut dyn Sink,
    pub(super) dead_letters: Option<&'a mut (dyn DeadLetterSink + 'static)>,
    pub(super) encoded: &'a EncodedWindow,
}

impl Attempt<'_> {
    /// Publishes in one transaction, which also stores the progress `at`. A transaction that fails is aborted. `owned` is as
    /// for [`publish`](Attempt::publish).
    pub(super) fn transact<At: ?Sized>(
        &mut self,
        owned: &[bool],
        transaction: &mut dyn Transaction<At>,
        at: &At,
    ) -> Result<Settled, DeliveryError> {
        let began = Instant::now();
        transaction.begin()?;
        let committed = self.publish(owned).and_then(|settled| {
            transaction.commit(at)?;
            Ok(settled)
        });
        events::transaction_ended(began, committed.is_ok());
        if committed.is_err() {
            transaction.abort()?;
        }
        committed
    }

    /// `owned` for [`publish`](Attempt::publish) where no partition can be revoked.
    pub(super) fn all_owned(&self) -> Vec<bool> {
        vec![true; self.encoded.window.blocks.len()]
    }

    /// Writes the rows and dead letters of the owned blocks. `owned` has one entry per block of the window: whether its
    /// partition is still assigned to this consumer. The records of other blocks are only counted, as abandoned.
    pub(super) fn publish(&mut self, owned: &[bool]) -> Result<Settled, DeliveryError> {
        let EncodedWindow { window, output, rejected, trace } = self.encoded;
        let has_deletes = || window.blocks.iter().any(|block| !block.deletes.is_empty());
        let rows = WindowRows { window, output, owned, traceparent: trace.traceparent() };
        let is_owned = |dead_letter: &&DeadLetter| {
            rows.blocks().any(|rows| rows.is_owned && contains(rows.block, &dead_letter.position))
        };
        let rejected: Vec<&DeadLetter> = rejected.iter().filter(is_owned).collect();
        self.write_dead_letters(&rejected)?;
        let mut too_large = Vec::new();
        if self.sink.takes_every_window() || output.rows() > 0 || has_deletes() {
            too_large = self.sink.write(&rows)?;
            self.write_dead_letters(&too_large.iter().collect::<Vec<_>>())?;
        }
        let mut settled = Settled { input_bytes_read: window.input_bytes_read(), ..Default::default() };
        for BlockRows { block, is_owned, output, .. } in rows.blocks() {
            settled.records += block.records() as u64;
            if !is_owned {
                settled.abandoned += block.records() as u64;
                continue;
            }
            settled.deletes += block.deletes.len() as u64;
            settled.rows += output.len() as u64;
            for row in 0..block.rows() {
                let truncated = u64::from(block.tokens.truncated(row));
                settled.tokens += block.tokens.ids(row).len() as u64;
                settled.truncated_tokens += truncated;
                settled.truncated_rows += u64::from(truncated > 0);
            }
        }
        settled.rows -= too_large.len() as u64;
        for dead_letter in rejected.into_iter().chain(&too_large) {
            settled.dead_letters[dead_letter.stage as usize] += 1;
        }
        trace.published();
        Ok(settled)
    }

    pub(super) fn flush_sink(&mut self) -> Result<(), DeliveryError> {
        Ok(self.sink.flush()?)
    }

    pub(super) fn flush_dead_letters(&mut self) -> Result<(), DeliveryError> {
        self.dead_letters.as_mut().map_or(Ok(()), |sink| sink.flush()).map_err(DeliveryError::DeadLetter)
    }

    fn write_dead_letters(&mut self, dead_letters: &[&DeadLetter]) -> Result<(), DeliveryError> {
        match (&mut self.dead_letters, dead_letters) {
            (_, []) => Ok(()),
            (Some(sink), dead_letters) => dead_letters
                .iter()
                .try_for_each(|dead_letter| sink.write(dead_letter))
                .map_err(DeliveryError::DeadLetter),
            (None, [first, ..]) => {
                let DeadLetter { position, stage, cause, .. } = (*first).clone();
                Err(DeliveryError::Rejected { position, stage, cause })
            }
        }
    }
}

fn contains(block: &Block, position: &Position) -> bool {
    let offsets = block.body.offset(0)..=block.body.offset(block.records() - 1);
    *block.partition == *position.partition && offsets.contains(&position.offset)
}
