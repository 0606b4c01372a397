//! The execution plan: a [`Config`](crate::config::Config) that was checked as a whole, so that code that holds a plan can rely on it.
//!
//! Making a plan touches neither disk nor network. What depends on the machine (whether files exist, whether the model
//! loads) is checked by [`crate::start`], before any data is read.

mod error;
mod execution;
mod explain;
mod kafka;
mod route;
mod sections;
mod source_and_sink;

pub use error::PlanError;
pub use execution::Plan;
pub(crate) use route::Route;
pub use source_and_sink::SourcePlan;
pub(crate) use source_and_sink::{DeadLetterPlan, LocalSink, SinkPlan, TopicSink};

#[cfg(test)]
mod tests;
