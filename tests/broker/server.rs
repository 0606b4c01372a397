//! A real Kafka broker for the tests: one java process, broker and controller in one, on loopback ports of its own.
//!
//! In:    java, and the jars that `deploy/kafka.py` fetches (or those in the folder that EMBEDMILL_KAFKA_LIBS names).
//! Out:   addresses to connect to; `start_secure` adds listeners with SASL and TLS and the CA that clients must trust.
//! Keeps: data, certificates and log in a temporary folder that goes with the broker.
//! Fails: whoever cannot have a broker panics, with the first error and the end of the broker's log.
//!
//! A broker never outlives the process that started it, however that one ends: see `LAUNCH`.

use std::collections::hash_map::RandomState;
use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::hash::BuildHasher;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::ops::Range;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{LazyLock, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// The one user of the SASL listeners, by PLAIN and by SCRAM-SHA-256.
pub const USER: &str = "alice";
pub const PASSWORD: &str = "alice-secret";

/// A start takes 3 to 6 s; on a machine that builds at the same time it may take several times as long.
const START_LIMIT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(25);
/// Enough for the first error with its stack, and as much again of the log's end.
const EXCERPT_LINES: usize = 25;

/// Linux gives outgoing connections ports from 32768 on, macOS from 49152. A broker's ports must lie below: while it is
/// down, a client that keeps on knocking would sooner or later be given the broker's own port, and the restart fail.
const PORTS: Range<u16> = 15_000..32_000;

/// Kafka wants 16 bytes as base64; these spell embedmill-kafka1.
const CLUSTER_ID: &str = "ZW1iZWRtaWxsLWthZmthMQ";
const KEYSTORE_PASSWORD: &str = "embedmill-tests";

/// What every JVM gets. The small compiler and collector halve the time to start, and nothing is left in the system's
/// temporary folder when the process is killed.
const JVM: [&str; 4] = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto", "-XX:-UsePerfData"];

/// Becomes java, after it has left a watchdog behind. The watchdog reads from a pipe that this process holds open. A
/// line sends it away; the pipe's end, which comes when this process dies of whatever cause, makes it kill java and
/// remove the folder $1. The pause lets java be gone before its folder is.
const LAUNCH: &str = r#"
exec 3<&0 0</dev/null
folder=$1
shift
{ read -r _ <&3 || { kill -KILL $$; sleep 1; rm -rf -- "$folder"; }; } &
exec "$@" 3<&-
"#;

pub struct Broker {
    java: Option<Child>,
    ports: Vec<u16>,
    addr: String,
    secure: Option<Secure>,
    folder: TempDir,
}

struct Secure {
    sasl_addr: String,
    ssl_addr: String,
    sasl_ssl_addr: String,
    ca_pem: PathBuf,
}

/// One broker for all tests that neither kill it nor need it secure. A static is never dropped: the watchdog ends it.
pub fn shared() -> &'static Broker {
    static SHARED: OnceLock<Broker> = OnceLock::new();
    SHARED.get_or_init(Broker::start)
}

impl Broker {
    /// With a plaintext listener only, which is the quickest to start.
    pub fn start() -> Broker {
        Broker::launch(false)
    }

    /// With SASL, TLS, and both on listeners of their own beside the plaintext one.
    pub fn start_secure() -> Broker {
        Broker::launch(true)
    }

    fn launch(with_security: bool) -> Broker {
        let folder = tempfile::Builder::new()
            .prefix("embedmill-kafka-")
            .tempdir()
            .expect("the temporary folder takes a broker's data");
        fs::create_dir(folder.path().join("tmp")).expect("the folder was just made");
        let ports = free_ports(if with_security { 5 } else { 2 });
        let address = |index: usize| format!("127.0.0.1:{}", ports[index]);
        let mut properties = properties(folder.path(), &address(1));
        let mut listeners = vec![("PLAINTEXT", address(0)), ("CONTROLLER", address(1))];
        let secure = with_security.then(|| Secure {
            sasl_addr: address(2),
            ssl_addr: address(3),
            sasl_ssl_addr: address(4),
            ca_pem: make_certificates(folder.path()),
        });
        if let Some(secure) = &secure {
            properties += &secure_properties(folder.path());
            listeners.push(("SASL_PLAINTEXT", secure.sasl_addr.clone()));
            listeners.push(("SSL", secure.ssl_addr.clone()));
            listeners.push(("SASL_SSL", secure.sasl_ssl_addr.clone()));
        }
        let listeners: Vec<String> = listeners.iter().map(|(name, addr)| format!("{name}://{addr}")).collect();
        properties += &format!("listeners={}\n", listeners.join(","));
        fs::write(folder.path().join("server.properties"), properties).expect("the folder was just made");

        let mut broker = Broker { java: None, addr: address(0), ports, secure, folder };
        broker.format();
        broker.restart();
        broker
    }

    /// HOST:PORT of the plaintext listener, as `bootstrap.servers` takes it.
    pub fn addr(&self) -> &str {
        &self.addr
    }

    /// SASL without TLS.
    pub fn sasl_addr(&self) -> &str {
        &self.secure().sasl_addr
    }

    /// TLS without SASL; clients need no certificate.
    pub fn ssl_addr(&self) -> &str {
        &self.secure().ssl_addr
    }

    /// SASL over TLS.
    pub fn sasl_ssl_addr(&self) -> &str {
        &self.secure().sasl_ssl_addr
    }

    /// The file of the CA that signed the certificate of the TLS listeners, for `ssl.ca.location`.
    pub fn ca_pem(&self) -> &Path {
        &self.secure().ca_pem
    }

    fn secure(&self) -> &Secure {
        self.secure.as_ref().expect("only a broker of start_secure has these listeners")
    }

    /// SIGKILL: the broker has no time to say goodbye to anybody, or to close its files.
    pub fn kill(&mut self) {
        let Some(mut java) = self.java.take() else { return };
        // Both can only fail if java or its watchdog is already gone. The order matters: this process may die between
        // the two, and the watchdog must then still be there.
        let _ = java.kill();
        if let Some(mut watchdog) = java.stdin.take() {
            let _ = watchdog.write_all(b"\n");
        }
        let _ = java.wait();
    }

    /// Starts again on the same ports and data, after `kill` (which it does itself if need be), and waits
    /// until the broker answers.
    pub fn restart(&mut self) {
        self.kill();
        let log_path = self.log_path();
        let log = OpenOptions::new().create(true).append(true).open(&log_path).expect("the log can be written");
        let log_start = log.metadata().expect("the log is open").len() as usize;
        let mut command = Command::new("sh");
        command.args(["-c", LAUNCH, "sh"]).arg(self.folder.path());
        command.arg(java_tool("java")).args(JVM).arg("-Xmx512m");
        command.arg(format!("-Djava.io.tmpdir={}", self.folder.path().join("tmp").display()));
        command.arg("-Dorg.slf4j.simpleLogger.showDateTime=true");
        command.arg("-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS");
        command.arg("-cp").arg(libs().join("*")).arg("kafka.Kafka").arg("server.properties");
        command.current_dir(self.folder.path());
        command.stdin(Stdio::piped()).stdout(log.try_clone().expect("the log is open")).stderr(log);
        // In a group of its own, a Ctrl-C meant for the tests does not reach the watchdog.
        command.process_group(0);
        self.java = Some(command.spawn().expect("a POSIX system has a shell"));
        self.wait_until_started(log_start);
    }

    fn wait_until_started(&mut self, log_start: usize) {
        let started = Instant::now();
        loop {
            let log = fs::read(self.log_path()).expect("the log was just opened");
            let log = String::from_utf8_lossy(&log[log_start..]);
            if log.contains("Kafka Server started") && self.ports.iter().all(|port| answers(*port)) {
                return;
            }
            let java = self.java.as_mut().expect("java was just started");
            let problem = match java.try_wait().expect("java is a child of this process") {
                Some(status) => format!("the broker ended with {status}"),
                None if started.elapsed() > START_LIMIT => format!("the broker did not start in {START_LIMIT:?}"),
                None => {
                    thread::sleep(POLL_INTERVAL);
                    continue;
                }
            };
            panic!("{problem}. Its log:\n{}", excerpt(&log));
        }
    }

    /// Writes the cluster's identity and the first metadata; the SCRAM password is part of these.
    fn format(&self) {
        let mut command = Command::new(java_tool("java"));
        command.args(JVM).arg("-cp").arg(libs().join("*")).args(["kafka.tools.StorageTool", "format", "--standalone"]);
        command.args(["--cluster-id", CLUSTER_ID, "--config", "server.properties"]);
        if self.secure.is_some() {
            command.arg("--add-scram").arg(format!("SCRAM-SHA-256=[name={USER},password={PASSWORD}]"));
        }
        finish(command.current_dir(self.folder.path()));
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("broker.log")
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Configuration

fn properties(folder: &Path, controller_addr: &str) -> String {
    let data = folder.join("data");
    format!(
        "\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers={controller_addr}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL
log.dirs={data}
auto.create.topics.enable=false
# There is nobody to replicate to.
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
# Few and small files: the tests make many topics, and each partition has files of its own.
offsets.topic.num.partitions=5
transaction.state.log.num.partitions=5
share.coordinator.state.topic.num.partitions=5
log.segment.bytes=16777216
log.index.size.max.bytes=65536
offsets.topic.segment.bytes=1048576
transaction.state.log.segment.bytes=1048576
# The buffer's default takes a quarter of the heap.
log.cleaner.dedupe.buffer.size=4194304
# Tests wait for none of the pauses that a cluster makes for its members' sake.
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
# After a kill, the controller takes the broker back only when its old session has expired; the default is 9 s.
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
# The default makes threads for large machines, for each listener anew.
num.network.threads=2
num.io.threads=4
",
        data = data.display()
    )
}

fn secure_properties(folder: &Path) -> String {
    let mut lines = format!(
        "\
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256
ssl.keystore.type=PKCS12
ssl.keystore.location={}
ssl.keystore.password={KEYSTORE_PASSWORD}
",
        folder.join("server.p12").display()
    );
    for listener in ["sasl_plaintext", "sasl_ssl"] {
        let login = format!("listener.name.{listener}");
        let package = "org.apache.kafka.common.security";
        lines += &format!(
            "\
{login}.plain.sasl.jaas.config={package}.plain.PlainLoginModule required user_{USER}=\"{PASSWORD}\";
{login}.scram-sha-256.sasl.jaas.config={package}.scram.ScramLoginModule required;
"
        );
    }
    lines
}

/// A CA and a certificate that it signed, good for both names of this machine. Only the CA's certificate is kept: with
/// two keys in the store, the broker might present the wrong one.
fn make_certificates(folder: &Path) -> PathBuf {
    let keytool = |arguments: &[&str]| {
        let mut command = Command::new(java_tool("keytool"));
        command.args(JVM.map(|option| format!("-J{option}")));
        command.args(arguments).args(["-keystore", "server.p12", "-storetype", "PKCS12"]);
        finish(command.args(["-storepass", KEYSTORE_PASSWORD]).current_dir(folder));
    };
    let key = ["-genkeypair", "-keyalg", "EC", "-groupname", "secp256r1", "-validity", "30"];
    let ca =
        ["-alias", "ca", "-dname", "CN=embedmill test CA", "-ext", "bc:critical=ca:true", "-ext", "ku=keyCertSign"];
    let names = "san=ip:127.0.0.1,dns:localhost";
    let server = ["-alias", "server", "-dname", "CN=localhost", "-signer", "ca", "-ext", names];
    keytool(&[&key[..], &ca].concat());
    keytool(&[&key[..], &server].concat());
    keytool(&["-exportcert", "-rfc", "-alias", "ca", "-file", "ca.pem"]);
    keytool(&["-delete", "-alias", "ca"]);
    folder.join("ca.pem")
}

// ---------------------------------------------------------------------------------------------------------------------
// The machine

/// The folder of the broker's jars; the first call may fetch them.
fn libs() -> &'static Path {
    static LIBS: OnceLock<PathBuf> = OnceLock::new();
    LIBS.get_or_init(|| {
        if let Some(own) = std::env::var_os("EMBEDMILL_KAFKA_LIBS") {
            return own.into();
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join("kafka.py");
        let printed = finish(Command::new("python3").arg(script).args(["--print", "libs"]));
        PathBuf::from(printed.trim_end())
    })
}

/// As for Maven, JAVA_HOME goes before PATH.
fn java_tool(name: &str) -> PathBuf {
    match std::env::var_os("JAVA_HOME").filter(|home| !home.is_empty()) {
        Some(home) => Path::new(&home).join("bin").join(name),
        None => name.into(),
    }
}

/// What the command wrote to standard output; a panic with all that it wrote where it failed.
fn finish(command: &mut Command) -> String {
    let name = command.get_program().display().to_string();
    let done = command.stdin(Stdio::null()).output();
    let done = done.unwrap_or_else(|error| panic!("{name} cannot be run: {error}"));
    let written = String::from_utf8_lossy(&done.stdout).into_owned();
    if !done.status.success() {
        let arguments: Vec<&OsStr> = command.get_args().collect();
        let errors = String::from_utf8_lossy(&done.stderr);
        panic!("{name} {arguments:?} ended with {}:\n{written}{errors}", done.status);
    }
    written
}

/// Ports that nobody listens on. Each is handed out once in this process, for between this look and the broker's start
/// there is time for another test to look; and processes begin in different places.
fn free_ports(count: usize) -> Vec<u16> {
    static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| AtomicU16::new(RandomState::new().hash_one(()) as u16));
    let candidates = std::iter::repeat_with(|| PORTS.start + NEXT.fetch_add(1, Ordering::Relaxed) % PORTS.len() as u16);
    let free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let ports: Vec<u16> = candidates.take(PORTS.len()).filter(free).take(count).collect();
    assert_eq!(ports.len(), count, "too few of the ports {PORTS:?} are free");
    ports
}

/// The first error and the end of a log: a broker that fails writes hundreds of lines about its shutdown after it.
fn excerpt(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    let tail_start = lines.len().saturating_sub(EXCERPT_LINES);
    let mut shown = Vec::new();
    if let Some(error) = lines[..tail_start].iter().position(|line| line.contains(" ERROR ")) {
        shown.extend(&lines[error..tail_start.min(error + EXCERPT_LINES)]);
        shown.push("[...]");
    }
    shown.extend(&lines[tail_start..]);
    shown.join("\n")
}

fn answers(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}
