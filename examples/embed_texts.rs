//! Embeds texts and prints which of them is nearest to a query.
//!
//! ```sh
//! cargo run --release --example embed_texts -- sentence-transformers/all-MiniLM-L6-v2
//! ```
//!
//! Without an argument it takes the hash backend, which needs neither libtorch nor a model.

use std::error::Error;

use embedmill::{Backend, Embedder, ModelConfig};

fn main() -> Result<(), Box<dyn Error>> {
    let config = match std::env::args().nth(1) {
        Some(id) => ModelConfig { id: Some(id), ..ModelConfig::default() },
        None => ModelConfig { backend: Backend::Hash, ..ModelConfig::default() },
    };
    let texts = ["the cat sits on the mat", "quarterly revenue rose by a tenth", "how to bake sourdough bread"];
    let query = "a cat on a mat";

    let mut embedder = Embedder::load(&config)?;
    println!("{}", embedder.describe());
    let vectors = embedder.embed(&texts)?;
    let query = Embedder::load_for_queries(&config)?.embed(&[query])?;

    let cosine = |row: usize| {
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        let (text, query) = (vectors.row(row), query.row(0));
        dot(text, query) / (dot(text, text) * dot(query, query)).sqrt()
    };
    let mut rows: Vec<usize> = (0..texts.len()).collect();
    rows.sort_by(|&a, &b| cosine(b).total_cmp(&cosine(a)));
    for row in rows {
        println!("{:.3}  {}", cosine(row), texts[row]);
    }
    Ok(())
}
