//! Token ids in, the vectors that the first layer takes out. `[tokens]` → `[tokens, width]`
//!
//! A token's vector, plus a vector of its position where the family has a table of positions, then a norm and a projection
//! to the layers' width, in the order of the family.

use tch::{Kind, TchError, Tensor};

use super::linear::Linear;
use super::norm::Norm;
use crate::encode::torch::packed_batch::{LengthGroup, PackedBatch};
use crate::encode::torch::tensor_names::TensorNames;
use crate::encode::torch::weights::Weights;
use crate::model::LoadError;

/// The embedding tables of a model, and what is done to their sum.
pub(crate) struct Embeddings {
    /// `[vocab_size, width]`
    pub tokens: Tensor,
    pub positions: Option<PositionEmbeddings>,
    /// Applied to the sum, in order.
    pub steps: Vec<EmbeddingStep>,
}

/// One operation on the sum of the embeddings.
pub(crate) enum EmbeddingStep {
    Norm(Norm),
    Project(Linear),
}

/// A learned vector for each position in a sequence.
pub(crate) struct PositionEmbeddings {
    /// `[rows, width]`
    table: Tensor,
    offset: PositionOffset,
}

/// Which row of the table of positions a token gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PositionOffset {
    /// The first token gets row 0.
    Zero,
    /// RoBERTa's rule for this `padding_idx`: a token gets row padding_idx + 1 + its index among the tokens that are not the
    /// padding token; padding tokens get row padding_idx (transformers' `create_position_ids_from_input_ids`). Nothing is
    /// padded here, but a text may spell the padding token out.
    AfterPadding(i64),
}

impl PositionOffset {
    /// The longest sequence, in tokens, that a table of this many rows has positions for.
    pub(crate) fn max_tokens(self, rows: i64) -> i64 {
        match self {
            PositionOffset::Zero => rows,
            PositionOffset::AfterPadding(padding_idx) => rows - padding_idx - 1,
        }
    }
}

/// Reads the token table, `[vocab_size, width]`, with the vector of segment 0 added to each row: a text is one segment, so
/// every token has token type 0. Adding it once here rounds as adding it for each token would. `token_types` is the number of
/// rows that the checkpoint has for segments; with 0 nothing is added.
pub(crate) fn token_embeddings_with_segment_0(
    names: &TensorNames,
    vocab_size: i64,
    width: i64,
    token_types: i64,
    weights: &mut Weights,
) -> Result<Tensor, LoadError> {
    let mut tokens = weights.take(&names.at("word_embeddings.weight"), &[vocab_size, width])?;
    if token_types > 0 {
        let segments = weights.take(&names.at("token_type_embeddings.weight"), &[token_types, width])?;
        let added = segments.f_narrow(0, 0, 1).and_then(|first| tokens.f_add_(&first)).map(drop);
        added.map_err(|error| weights.load_error(&error))?;
    }
    Ok(tokens)
}

impl Embeddings {
    /// Token embeddings and nothing else.
    pub(crate) fn of_tokens(tokens: Tensor) -> Embeddings {
        Embeddings { tokens, positions: None, steps: Vec::new() }
    }

    /// `[tokens, width]`
    pub(crate) fn forward(&self, batch: &PackedBatch) -> Result<Tensor, TchError> {
        let mut hidden_states = self.tokens.f_index_select(0, &batch.ids)?;
        if let Some(positions) = &self.positions {
            positions.add_to(&hidden_states, batch)?;
        }
        for step in &self.steps {
            hidden_states = match step {
                EmbeddingStep::Norm(norm) => norm.forward(&hidden_states)?,
                EmbeddingStep::Project(linear) => linear.forward(&hidden_states)?,
            };
        }
        Ok(hidden_states)
    }

    /// The same embeddings for another worker: the weights are shared.
    pub(crate) fn share(&self) -> Embeddings {
        let share_step = |step: &EmbeddingStep| match step {
            EmbeddingStep::Norm(norm) => EmbeddingStep::Norm(norm.share()),
            EmbeddingStep::Project(linear) => EmbeddingStep::Project(linear.share()),
        };
        Embeddings {
            tokens: self.tokens.shallow_clone(),
            positions: self.positions.as_ref().map(PositionEmbeddings::share),
            steps: self.steps.iter().map(share_step).collect(),
        }
    }
}

impl PositionEmbeddings {
    /// Reads `position_embeddings.weight`, `[rows, width]`.
    pub(crate) fn load(
        names: &TensorNames,
        rows: i64,
        width: i64,
        offset: PositionOffset,
        weights: &mut Weights,
    ) -> Result<PositionEmbeddings, LoadError> {
        let table = weights.take(&names.at("position_embeddings.weight"), &[rows, width])?;
        Ok(PositionEmbeddings { table, offset })
    }

    fn share(&self) -> PositionEmbeddings {
        PositionEmbeddings { table: self.table.shallow_clone(), offset: self.offset }
    }

    /// Adds to each token's vector that of its position, in place. `[tokens, width]`
    fn add_to(&self, hidden_states: &Tensor, batch: &PackedBatch) -> Result<(), TchError> {
        let (first_row, padding_idx) = match self.offset {
            PositionOffset::Zero => (0, None),
            PositionOffset::AfterPadding(padding_idx) => {
                let occurs = batch.ids.f_eq(padding_idx)?.f_any()?.f_int64_value(&[])? != 0;
                (padding_idx + 1, occurs.then_some(padding_idx))
            }
        };
        for &group in &batch.groups {
            let positions = match padding_idx {
                None => self.table.f_narrow(0, first_row, group.length)?,
                Some(id) => self.table.f_index_select(0, &rows_with_padding(id, batch, group)?)?,
            };
            // [1, length, width], the same for each sequence, or [rows, length, width]
            let shape = [if padding_idx.is_some() { group.rows } else { 1 }, group.length, -1];
            drop(batch.view(hidden_states, group)?.f_add_(&positions.f_view(shape)?)?);
        }
        Ok(())
    }
}

/// RoBERTa's rows of a group in which the padding token may occur. `[rows * length]`
fn rows_with_padding(padding_idx: i64, batch: &PackedBatch, group: LengthGroup) -> Result<Tensor, TchError> {
    let ids = batch.ids.f_narrow(0, group.start, group.tokens())?.f_view([group.rows, group.length])?;
    let counted = ids.f_ne(padding_idx)?;
    counted.f_cumsum(1, Kind::Int64)?.f_mul(&counted)?.f_add_scalar(padding_idx)?.f_view([-1])
}
