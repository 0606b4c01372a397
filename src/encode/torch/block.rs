//! One layer of a transformer: attention, then a perceptron, each added to what came in. Families differ in where the norms
//! are, in whether the perceptron has a gate, and in the attention that they are handed.
//!
//! `x = after(x + within(attention(before(x))))`, and the same for the perceptron; a norm that the family does not have is
//! left out. BERT has `after`, T5 and the decoders have `before`, Gemma has `before` and `within`.

use tch::{TchError, Tensor};

use super::attention::Attention;
use super::heads::Heads;
use super::layers::{Activation, Buffer, Linear, Norm, Widths};
use super::names::Names;
use super::packed::Packed;
use super::weights::Weights;
use crate::model::LoadError;

pub struct Block {
    pub qkv: Linear,
    /// Norms of each head's queries and keys.
    pub head_norms: Option<HeadNorms>,
    pub mixed: Linear,
    pub attention_norms: Norms,
    pub perceptron: Perceptron,
    pub perceptron_norms: Norms,
}

/// Where one half of a layer is normalised.
#[derive(Default)]
pub struct Norms {
    pub before: Option<Norm>,
    pub within: Option<Norm>,
    pub after: Option<Norm>,
}

/// down(activation(up(x))), or with a gate down(activation(gate(x)) * up(x)) (Shazeer 2020).
pub struct Perceptron {
    /// What the activation is applied to: the gate where there is one, else `up`.
    pub active: Linear,
    /// `up` where there is a gate.
    pub factor: Option<Linear>,
    pub activation: Activation,
    pub down: Linear,
}

/// The widths that a layer's buffers are made for.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub heads: Heads,
    pub intermediate: i64,
    pub gated: bool,
}

/// Results within a layer; the next layer writes over them.
pub struct Room {
    shape: Shape,
    /// `[tokens, qkv_width]`
    qkv: Buffer,
    /// `[tokens, mixed_width]`
    mixed: Buffer,
    /// `[tokens, intermediate]`
    active: Buffer,
    /// `[tokens, intermediate]`, or of no width without a gate
    factor: Buffer,
}

/// A batch's part of the room.
pub struct Rows {
    qkv: Tensor,
    mixed: Tensor,
    active: Tensor,
    factor: Tensor,
}

impl Room {
    /// For numbers of the type of `like`, and where it is.
    pub fn new(shape: Shape, like: &Tensor) -> Result<Room, TchError> {
        Ok(Room {
            shape,
            qkv: Buffer::new(shape.heads.qkv_width(), like)?,
            mixed: Buffer::new(shape.heads.mixed_width(), like)?,
            active: Buffer::new(shape.intermediate, like)?,
            factor: Buffer::new(if shape.gated { shape.intermediate } else { 0 }, like)?,
        })
    }

    pub fn rows(&mut self, tokens: i64) -> Result<Rows, TchError> {
        Ok(Rows {
            qkv: self.qkv.rows(tokens)?,
            mixed: self.mixed.rows(tokens)?,
            active: self.active.rows(tokens)?,
            factor: self.factor.rows(tokens)?,
        })
    }

    pub fn another(&self) -> Result<Room, TchError> {
        Ok(Room {
            shape: self.shape,
            qkv: self.qkv.another()?,
            mixed: self.mixed.another()?,
            active: self.active.another()?,
            factor: self.factor.another()?,
        })
    }
}

impl Block {
    /// The layer's output for its input `flat`, which it writes to. `[tokens, hidden]`
    pub fn forward(
        &self,
        layer: usize,
        mut flat: Tensor,
        attention: &dyn Attention,
        batch: &Packed,
        rows: &mut Rows,
    ) -> Result<Tensor, TchError> {
        let input = self.attention_norms.before(&flat)?;
        self.qkv.product(input.as_ref().unwrap_or(&flat), &mut rows.qkv)?;
        let mut bias = self.qkv.bias();
        if let Some(norms) = &self.head_norms {
            norms.apply(&mut rows.qkv, bias.take())?;
        }
        attention.attend(layer, &mut rows.qkv, bias, batch, &mut rows.mixed)?;
        flat = self.attention_norms.join(flat, &self.mixed, &rows.mixed)?;

        let input = self.perceptron_norms.before(&flat)?;
        self.perceptron.widen(input.as_ref().unwrap_or(&flat), rows)?;
        self.perceptron_norms.join(flat, &self.perceptron.down, &rows.active)
    }

    pub fn share(&self) -> Block {
        Block {
            qkv: self.qkv.share(),
            head_norms: self.head_norms.as_ref().map(HeadNorms::share),
            mixed: self.mixed.share(),
            attention_norms: self.attention_norms.share(),
            perceptron: self.perceptron.share(),
            perceptron_norms: self.perceptron_norms.share(),
        }
    }
}

impl Norms {
    pub fn after(norm: Norm) -> Norms {
        Norms { after: Some(norm), ..Norms::default() }
    }

    pub fn before_only(norm: Norm) -> Norms {
        Norms { before: Some(norm), ..Norms::default() }
    }

    fn before(&self, flat: &Tensor) -> Result<Option<Tensor>, TchError> {
        self.before.as_ref().map(|norm| norm.forward(flat)).transpose()
    }

    /// after(flat + within(linear(x)))
    fn join(&self, mut flat: Tensor, linear: &Linear, x: &Tensor) -> Result<Tensor, TchError> {
        match &self.within {
            None => linear.add_to(x, &mut flat)?,
            Some(norm) => drop(flat.f_add_(&norm.forward(&linear.forward(x)?)?)?),
        }
        match &self.after {
            None => Ok(flat),
            Some(norm) => norm.forward(&flat),
        }
    }

    fn share(&self) -> Norms {
        let share = |norm: &Option<Norm>| norm.as_ref().map(Norm::share);
        Norms { before: share(&self.before), within: share(&self.within), after: share(&self.after) }
    }
}

impl Perceptron {
    /// Without a gate, from the two layers' names.
    pub fn plain(
        (up, down): (&Names, &Names),
        (hidden, intermediate): Widths,
        activation: Activation,
        bias: bool,
        weights: &mut Weights,
    ) -> Result<Perceptron, LoadError> {
        Ok(Perceptron {
            active: Linear::load(up, (hidden, intermediate), bias, weights)?,
            factor: None,
            activation,
            down: Linear::load(down, (intermediate, hidden), bias, weights)?,
        })
    }

    /// With a gate, from the names that most families give the three layers.
    pub fn gated(
        names: &Names,
        (hidden, intermediate): Widths,
        activation: Activation,
        bias: bool,
        weights: &mut Weights,
    ) -> Result<Perceptron, LoadError> {
        Ok(Perceptron {
            active: Linear::load(&names.at("gate_proj"), (hidden, intermediate), bias, weights)?,
            factor: Some(Linear::load(&names.at("up_proj"), (hidden, intermediate), bias, weights)?),
            activation,
            down: Linear::load(&names.at("down_proj"), (intermediate, hidden), bias, weights)?,
        })
    }

    /// What `down` takes, into `rows.active`. `[tokens, intermediate]`
    fn widen(&self, x: &Tensor, rows: &mut Rows) -> Result<(), TchError> {
        self.active.product(x, &mut rows.active)?;
        self.activation.add_bias_and_apply(&mut rows.active, self.active.bias())?;
        if let Some(factor) = &self.factor {
            factor.product(x, &mut rows.factor)?;
            if let Some(bias) = factor.bias() {
                drop(rows.factor.f_add_(bias)?);
            }
            drop(rows.active.f_mul_(&rows.factor)?);
        }
        Ok(())
    }

    fn share(&self) -> Perceptron {
        Perceptron {
            active: self.active.share(),
            factor: self.factor.as_ref().map(Linear::share),
            activation: self.activation,
            down: self.down.share(),
        }
    }
}

/// Norms over each head's numbers, one for queries and one for keys.
pub struct HeadNorms {
    pub heads: Heads,
    pub queries: Norm,
    pub keys: Norm,
}

impl HeadNorms {
    /// Adds `bias` to `qkv`, `[tokens, qkv_width]`, and normalises queries and keys in it.
    fn apply(&self, qkv: &mut Tensor, bias: Option<&Tensor>) -> Result<(), TchError> {
        if let Some(bias) = bias {
            drop(qkv.f_add_(bias)?);
        }
        let Heads { queries, keys, dim } = self.heads;
        for (norm, first, count) in [(&self.queries, 0, queries), (&self.keys, queries, keys)] {
            let mut part = qkv.f_narrow(1, first * dim, count * dim)?.f_view([-1, count, dim])?;
            part.f_copy_(&norm.forward(&part)?)?;
        }
        Ok(())
    }

    fn share(&self) -> HeadNorms {
        HeadNorms { heads: self.heads, queries: self.queries.share(), keys: self.keys.share() }
    }
}
