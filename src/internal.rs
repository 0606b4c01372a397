//! Internal items that the tests of this repository use. This module is not part of the public interface and may change at any time.
#![allow(missing_docs, reason = "each item is documented where it is defined")]

pub mod backoff {
    pub use crate::backoff::Backoff;
}

pub mod batch {
    pub use crate::batch::{BatchConfig, PaddingMode, TokenBatch, plan};
}

pub mod budget {
    pub use crate::budget::Budget;
}

pub mod columnar {
    pub use crate::columnar::Tokens;

    pub mod kept {
        pub use crate::columnar::kept::{KeptSchema, TypeSample};
    }
}

pub mod config {
    pub use crate::config::{Config, Layers, schema};
}

pub mod delivery {
    pub use crate::delivery::{Delivery, DeliveryError, NoCommit};
}

pub mod device {
    pub use crate::device::Device;
}

pub mod digest {
    pub use crate::digest::{hex, sha256_file};
}

pub mod encode {
    pub use crate::encode::{EncodeError, Encoder, factory, query_spec, spec};

    pub mod torch {
        pub use crate::encode::torch::families;
    }

    pub mod worker {
        pub use crate::encode::worker::{EncoderFactory, WorkerPool};
    }
}

pub mod failure {
    pub use crate::failure::Failure;
}

pub mod graph {
    pub use crate::graph::mermaid;
}

pub mod kafka {
    pub use crate::kafka::KafkaError;

    pub mod config {
        pub use crate::kafka::config::KafkaSourceConfig;
    }
}

pub mod matrix {
    pub use crate::matrix::Matrix;
}

pub mod model {
    pub use crate::model::{Backend, LoadError, ModelConfig, OutputValue, Pooling, PoolingMode, Precision};

    pub mod chain {
        pub use crate::model::chain::DenseActivation;
    }

    pub mod config_file {
        pub use crate::model::config_file::ConfigFile;
    }

    pub mod hub {
        pub use crate::model::hub::{DownloadProgress, HubError, HubSettings, ModelFolder, Secret, resolve};
    }

    pub mod spec {
        pub use crate::model::spec::ModelSpec;
    }

    pub mod tokenizer {
        pub use crate::model::tokenizer::Tokenizer;
    }
}

pub mod output {
    pub use crate::output::{OutputSchema, Vectors};

    pub mod quantize {
        pub use crate::output::quantize::{OutputPrecision, Quantized, Quantizer, Ranges};
    }

    pub mod read {
        pub use crate::output::read::OutputFile;
    }
}

pub mod pipeline {
    pub use crate::pipeline::{Pipeline, Progress, RunError, Stop, Summary, Tuning};
}

pub mod plan {
    pub use crate::plan::{Plan, SourcePlan};
}

pub mod record {
    pub use crate::record::{Body, DeadLetter, Payload};
}

pub mod sink {
    pub use crate::sink::{Sink, SinkError, WindowRows, Written};

    pub mod memory {
        pub use crate::sink::memory::MemorySink;
    }
}

pub mod source {
    pub use crate::source::{RecordSender, Source, SourceError};

    pub mod file {
        pub use crate::source::file::{FileSource, FilesConfig, Format};
    }

    pub mod memory {
        pub use crate::source::memory::MemorySource;
    }
}

pub mod telemetry {

    pub mod names {
        pub use crate::telemetry::names::{ALL, Metric, MetricKind};
    }
}

pub mod text {

    pub mod extract {
        pub use crate::text::extract::Extractor;
    }

    pub mod field {
        pub use crate::text::field::{RecordConfig, RecordPlan};
    }
}

pub mod window {
    pub use crate::window::WindowConfig;
}
