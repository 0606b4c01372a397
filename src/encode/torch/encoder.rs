//! Embeddings, layers, and a last norm where the family has one: what nearly every family is, once its weights are read.

use tch::{TchError, Tensor};

use super::Transformer;
use super::attention::Attention;
use super::block::{Block, Room, Shape};
use super::embeddings::Embeddings;
use super::layers::{Mix, Norm};
use super::packed::Packed;
use super::weights::Weights;
use crate::model::LoadError;

pub struct Encoder {
    embeddings: Embeddings,
    blocks: Vec<Block>,
    norm: Option<Norm>,
    attention: Box<dyn Attention>,
    room: Room,
}

impl Encoder {
    pub fn new(
        embeddings: Embeddings,
        blocks: Vec<Block>,
        norm: Option<Norm>,
        attention: Box<dyn Attention>,
        shape: Shape,
        weights: &Weights,
    ) -> Result<Encoder, LoadError> {
        let room = Room::new(shape, &embeddings.words).map_err(|error| weights.failed(&error))?;
        Ok(Encoder { embeddings, blocks, norm, attention, room })
    }
}

impl Transformer for Encoder {
    fn forward(&mut self, batch: &Packed, mut mix: Mix) -> Result<Tensor, TchError> {
        self.attention.prepare(batch)?;
        let mut rows = self.room.rows(batch.tokens)?;
        let mut flat = self.embeddings.forward(batch)?;
        for (layer, block) in self.blocks.iter().enumerate() {
            mix.add(layer, &flat)?;
            flat = block.forward(layer, flat, self.attention.as_ref(), batch, &mut rows)?;
        }
        let last = match &self.norm {
            Some(norm) => norm.forward(&flat)?,
            None => flat,
        };
        mix.finish(last)
    }

    fn share(&self) -> Result<Box<dyn Transformer>, TchError> {
        Ok(Box::new(Encoder {
            embeddings: self.embeddings.share(),
            blocks: self.blocks.iter().map(Block::share).collect(),
            norm: self.norm.as_ref().map(Norm::share),
            attention: self.attention.share(),
            room: self.room.another()?,
        }))
    }
}
