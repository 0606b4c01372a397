//! Token ids in, the vectors that the first layer takes out. `[tokens, width]`
//!
//! A word's vector, a vector of its place where the family has a table of places, then a norm and a projection to the
//! layers' width, in the order of the family.

use tch::{Kind, TchError, Tensor};

use super::layers::{Linear, Norm};
use super::names::Names;
use super::packed::{Group, Packed};
use super::weights::Weights;
use crate::model::LoadError;

pub struct Embeddings {
    /// `[vocab, width]`
    pub words: Tensor,
    pub places: Option<Places>,
    pub steps: Vec<Step>,
}

/// What is done to the sum, in order.
pub enum Step {
    Norm(Norm),
    Project(Linear),
}

/// A vector for each place in a sequence.
pub struct Places {
    /// `[places, width]`
    pub table: Tensor,
    pub count: Count,
}

/// Which row of the table a token gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// The first token gets row 0.
    FromZero,
    /// Rows are counted from this id + 1, over tokens that are not this id; one that is gets the row of its id. RoBERTa's
    /// rule, made for padding: here nothing is padded, but a text may spell the padding token out.
    After(i64),
}

impl Count {
    /// How many tokens a table of this many rows has places for.
    pub fn room(self, rows: i64) -> i64 {
        match self {
            Count::FromZero => rows,
            Count::After(id) => rows - id - 1,
        }
    }
}

/// The table of words with the vector of type 0 added to each: one text is one segment, so every token has type 0. Added
/// here once, with the rounding of adding it each time. `types` is how many the checkpoint has.
pub fn words_of_type_0(
    names: &Names,
    (vocab, width): (i64, i64),
    types: i64,
    weights: &mut Weights,
) -> Result<Tensor, LoadError> {
    let mut words = weights.take(names.at("word_embeddings.weight").as_slice(), &[vocab, width])?;
    if types > 0 {
        let types = weights.take(names.at("token_type_embeddings.weight").as_slice(), &[types, width])?;
        let added = types.f_narrow(0, 0, 1).and_then(|first| words.f_add_(&first)).map(drop);
        added.map_err(|error| weights.failed(&error))?;
    }
    Ok(words)
}

impl Embeddings {
    /// `[tokens, width]`
    pub fn forward(&self, batch: &Packed) -> Result<Tensor, TchError> {
        let mut flat = self.words.f_index_select(0, &batch.ids)?;
        if let Some(places) = &self.places {
            places.add_to(&flat, batch)?;
        }
        for step in &self.steps {
            flat = match step {
                Step::Norm(norm) => norm.forward(&flat)?,
                Step::Project(linear) => linear.forward(&flat)?,
            };
        }
        Ok(flat)
    }

    pub fn share(&self) -> Embeddings {
        let share = |step: &Step| match step {
            Step::Norm(norm) => Step::Norm(norm.share()),
            Step::Project(linear) => Step::Project(linear.share()),
        };
        let places = |places: &Places| Places { table: places.table.shallow_clone(), count: places.count };
        Embeddings {
            words: self.words.shallow_clone(),
            places: self.places.as_ref().map(places),
            steps: self.steps.iter().map(share).collect(),
        }
    }
}

impl Places {
    pub fn load(
        names: &Names,
        (rows, width): (i64, i64),
        count: Count,
        weights: &mut Weights,
    ) -> Result<Places, LoadError> {
        let table = weights.take(names.at("position_embeddings.weight").as_slice(), &[rows, width])?;
        Ok(Places { table, count })
    }

    fn add_to(&self, flat: &Tensor, batch: &Packed) -> Result<(), TchError> {
        let (first, skipped) = match self.count {
            Count::FromZero => (0, None),
            Count::After(id) => {
                let spelled_out = batch.ids.f_eq(id)?.f_any()?.f_int64_value(&[])? != 0;
                (id + 1, spelled_out.then_some(id))
            }
        };
        for &group in &batch.groups {
            let places = match skipped {
                None => self.table.f_narrow(0, first, group.length)?,
                Some(id) => self.table.f_index_select(0, &rows_without(id, batch, group)?)?,
            };
            // [length, width] for each row of the group, or [rows * length, width] for all of them
            let shape = [if skipped.is_some() { group.rows } else { 1 }, group.length, -1];
            drop(batch.view(flat, group)?.f_add_(&places.f_view(shape)?)?);
        }
        Ok(())
    }
}

/// `[rows * length]`
fn rows_without(id: i64, batch: &Packed, group: Group) -> Result<Tensor, TchError> {
    let ids = batch.ids.f_narrow(0, group.start, group.rows * group.length)?.f_view([group.rows, group.length])?;
    let counted = ids.f_ne(id)?;
    counted.f_cumsum(1, Kind::Int64)?.f_mul(&counted)?.f_add_scalar(id)?.f_view([-1])
}
