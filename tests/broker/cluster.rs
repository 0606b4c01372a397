//! Helpers for tests with a broker: create topics, produce messages, read vectors, and run embedmill.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use arrow::array::AsArray;
use arrow::ipc::reader::StreamReader;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};
use tempfile::NamedTempFile;

pub const LIMIT: Duration = Duration::from_secs(60);

pub fn create_topics(addr: &str, topics: &[(&str, i32)], settings: &[(&str, &str)]) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", addr).create().expect("a client of the broker");
    let new = |&(name, partitions): &(&'static str, i32)| {
        settings.iter().fold(NewTopic::new(name, partitions, TopicReplication::Fixed(1)), |topic, (key, value)| {
            topic.set(key, value)
        })
    };
    // The few names are leaked, because the admin client's futures need them to be static.
    let topics: Vec<(&'static str, i32)> =
        topics.iter().map(|(name, partitions)| (&*String::leak(name.to_string()), *partitions)).collect();
    let new: Vec<NewTopic<'_>> = topics.iter().map(new).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let created = runtime.block_on(admin.create_topics(&new, &AdminOptions::new().operation_timeout(Some(LIMIT))));
    for created in created.expect("the broker answers") {
        created.expect("the topic is new");
    }
}

/// Changes a setting of a topic.
pub fn set(addr: &str, topic: &str, (key, value): (&str, &str)) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", addr).create().expect("a client of the broker");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let changed = AlterConfig::new(ResourceSpecifier::Topic(topic)).set(key, value);
    let altered = runtime.block_on(admin.alter_configs([&changed], &AdminOptions::new()));
    altered.expect("the broker answers").into_iter().for_each(|altered| drop(altered.expect("it can be set")));
}

/// A message to produce.
#[derive(Debug, Clone)]
pub struct Sent {
    pub partition: i32,
    pub key: String,
    pub value: Option<String>,
}

pub fn document(partition: i32, id: &str, text: &str) -> Sent {
    let value = serde_json::json!({ "id": id, "text": text }).to_string();
    Sent { partition, key: id.into(), value: Some(value) }
}

/// Panics if a message is not delivered; otherwise the loss would be looked for elsewhere.
struct Delivered;

impl ClientContext for Delivered {}

impl ProducerContext for Delivered {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            panic!("a message was not delivered: {error}");
        }
    }
}

pub fn produce(addr: &str, topic: &str, messages: &[Sent]) {
    let producer: BaseProducer<Delivered> = ClientConfig::new()
        .set("bootstrap.servers", addr)
        .set("enable.idempotence", "true")
        .set("message.max.bytes", "30000000")
        .create_with_context(Delivered)
        .expect("a client of the broker");
    for Sent { partition, key, value } in messages {
        let headers = OwnedHeaders::new().insert(rdkafka::message::Header { key: "origin", value: Some("test") });
        let mut record = BaseRecord::to(topic).partition(*partition).key(key.as_str()).headers(headers);
        if let Some(value) = value {
            record = record.payload(value.as_str());
        }
        while let Err((_, same)) = producer.send(record) {
            record = same;
            producer.poll(Duration::from_millis(20));
        }
        producer.poll(Duration::ZERO);
    }
    producer.flush(LIMIT).expect("everything is acknowledged");
}

/// A message that was read.
#[derive(Debug, Clone)]
pub struct Found {
    pub partition: i32,
    pub key: Option<String>,
    pub value: Option<Vec<u8>>,
    pub headers: BTreeMap<String, String>,
}

/// Everything that a `read_committed` consumer finds in the topic, partition by partition.
pub fn read(addr: &str, topic: &str) -> Vec<Found> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", addr)
        .set("group.id", "reader")
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .create()
        .expect("a client of the broker");
    let metadata = consumer.fetch_metadata(Some(topic), LIMIT).expect("the broker answers");
    let partitions = metadata.topics()[0].partitions().len();
    let mut found = Vec::new();
    for partition in 0..partitions as i32 {
        await_stable(addr, topic, partition);
        let mut assigned = TopicPartitionList::new();
        assigned.add_partition_offset(topic, partition, Offset::Beginning).expect("a valid offset");
        consumer.assign(&assigned).expect("it can be assigned");
        let deadline = Instant::now() + LIMIT;
        loop {
            assert!(Instant::now() < deadline, "{topic}[{partition}] has no end");
            match consumer.poll(Duration::from_secs(1)) {
                None => {}
                Some(Err(KafkaError::PartitionEOF(_))) => break,
                Some(Err(error)) => panic!("reading {topic}: {error}"),
                Some(Ok(message)) => found.push(Found {
                    partition,
                    key: message.key().map(|key| String::from_utf8_lossy(key).into_owned()),
                    value: message.payload().map(<[u8]>::to_vec),
                    headers: message
                        .headers()
                        .into_iter()
                        .flat_map(|headers| headers.iter())
                        .map(|header| {
                            let value = header.value.map(String::from_utf8_lossy).unwrap_or_default();
                            (header.key.to_string(), value.into_owned())
                        })
                        .collect(),
                }),
            }
        }
    }
    found
}

/// Waits until no transaction is open in the partition. The coordinator aborts the transaction of a killed process after its
/// timeout; until then a `read_committed` consumer sees nothing after it.
fn await_stable(addr: &str, topic: &str, partition: i32) {
    // The end that a client sees depends on its isolation level.
    let end = |isolation: &str| {
        let client: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", addr)
            .set("isolation.level", isolation)
            .create()
            .expect("a client of the broker");
        client.fetch_watermarks(topic, partition, LIMIT).expect("the broker answers").1
    };
    let deadline = Instant::now() + LIMIT;
    while end("read_committed") < end("read_uncommitted") {
        assert!(Instant::now() < deadline, "{topic}[{partition}] has a transaction that does not end");
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// Ids of all rows in the folder's Arrow files, file by file in the order of their names.
pub fn ids_in_files(folder: &std::path::Path) -> Vec<String> {
    let listed = std::fs::read_dir(folder).expect("the folder is there");
    let mut paths: Vec<PathBuf> = listed.map(|entry| entry.expect("it can be listed").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "arrow"));
    paths.sort();
    let mut ids = Vec::new();
    for path in paths {
        let file = std::fs::File::open(&path).expect("it can be read");
        for batch in arrow::ipc::reader::FileReader::try_new(file, None).expect("an Arrow file") {
            ids.extend(ids_of(&batch.expect("a whole file")));
        }
    }
    ids
}

fn ids_of(batch: &arrow::array::RecordBatch) -> Vec<String> {
    let ids = batch.column_by_name("id").expect("a column of ids").as_string::<i32>();
    ids.iter().map(|id| id.expect("no id is null").to_string()).collect()
}

impl Found {
    /// The ids in the message's one batch.
    pub fn ids(&self) -> Vec<String> {
        let value = self.value.as_deref().expect("it is no delete");
        let reader = StreamReader::try_new(value, None).expect("an Arrow IPC stream");
        let batches: Vec<_> = reader.collect::<Result<_, _>>().expect("a whole stream");
        assert_eq!(batches.len(), 1, "exactly one batch a message");
        ids_of(&batches[0])
    }
}

/// Ids of all rows in the topic by partition, in order.
pub fn ids(addr: &str, topic: &str) -> BTreeMap<i32, Vec<String>> {
    let mut ids = BTreeMap::<i32, Vec<String>>::new();
    for found in read(addr, topic) {
        ids.entry(found.partition).or_default().extend(found.ids());
    }
    ids
}

/// Stops a run with SIGTERM, and expects it to drain and succeed.
pub fn stop(child: &mut Child) {
    let sent = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    assert!(sent.expect("kill is there").success());
    assert!(child.wait().expect("it is a child").success());
}

/// A pipeline file that embedmill can run.
pub struct Pipeline {
    file: NamedTempFile,
}

impl Pipeline {
    /// From one topic to another with the hash encoder; `more` is further YAML.
    pub fn new(addr: &str, topics: [&str; 2], group: &str, more: &str) -> Pipeline {
        let [from, to] = topics;
        Pipeline::from_topics(addr, from, group, &format!("sink: {{ kafka: {{ topic: {to} }} }}\n{more}"))
    }

    /// The same with the model that `more` names.
    pub fn with_model(addr: &str, [from, to]: [&str; 2], group: &str, more: &str) -> Pipeline {
        Pipeline::written(addr, from, group, &format!("sink: {{ kafka: {{ topic: {to} }} }}\n{more}"))
    }

    /// From topics, separated by commas, to the sink that `more` names.
    pub fn from_topics(addr: &str, from: &str, group: &str, more: &str) -> Pipeline {
        Pipeline::written(addr, from, group, &format!("model: {{ backend: hash, hash_dim: 8 }}\n{more}"))
    }

    fn written(addr: &str, from: &str, group: &str, more: &str) -> Pipeline {
        Pipeline::with_properties(addr, from, group, "", more)
    }

    /// The same with further properties of the consumer, each after a comma.
    pub fn with_properties(addr: &str, from: &str, group: &str, properties: &str, more: &str) -> Pipeline {
        let mut file = NamedTempFile::with_suffix(".yaml").expect("a temporary file");
        write!(
            file,
            "source: {{ kafka: {{ brokers: '{addr}', topics: [{from}], group: {group}, \
             properties: {{ session.timeout.ms: '6000', heartbeat.interval.ms: '500'{properties} }} }} }}\n\
             record: {{ id: id }}\n{more}"
        )
        .expect("a temporary file");
        Pipeline { file }
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_embedmill"));
        command.arg("run").arg(self.path()).args(arguments).stdin(Stdio::null());
        command
    }

    pub fn path(&self) -> PathBuf {
        self.file.path().to_path_buf()
    }

    /// Runs to the topics' ends and returns the summary.
    pub fn run(&self, arguments: &[&str]) -> serde_json::Value {
        let output = self
            .command(&[&["--until-end", "--summary", "json"], arguments].concat())
            .output()
            .expect("embedmill starts");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{stderr}");
        let summary = stderr.lines().rev().find(|line| line.starts_with('{')).expect("a summary");
        serde_json::from_str(summary).expect("JSON")
    }

    pub fn spawn(&self, log: &std::path::Path) -> Child {
        let log = std::fs::OpenOptions::new().append(true).create(true).open(log).expect("a log");
        self.command(&[]).stderr(log).stdout(Stdio::null()).spawn().expect("embedmill starts")
    }
}
