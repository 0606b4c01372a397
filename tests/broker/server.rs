//! A real Kafka for the tests: a broker on its own loopback ports, with a controller in the same process or in another one.
//!
//! Out:   addresses to connect to; `start_secure` adds listeners with SASL and TLS and the CA that clients must trust.
//! Keeps: data, certificates and logs in a temporary folder that goes with the broker, unless EMBEDMILL_KAFKA_KEEP is set.
//! Fails: a broker that does not start panics, see `java.rs`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::java::{JVM, Node, finish, free_ports, java_tool};

/// A super user, who authenticates by PLAIN or SCRAM-SHA-256.
pub const USER: &str = "alice";
pub const PASSWORD: &str = "alice-secret";
/// A user without any permission, who authenticates by PLAIN.
pub const STRANGER: &str = "bob";

/// Kafka wants 16 bytes as base64; these spell embedmill-kafka1.
const CLUSTER_ID: &str = "ZW1iZWRtaWxsLWthZmthMQ";
const KEYSTORE_PASSWORD: &str = "embedmill-tests";

pub struct Broker {
    // Dropped in this order.
    node: Node,
    controller: Option<Node>,
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

/// The role of a node in its cluster.
#[derive(Clone, Copy)]
enum Role {
    Both,
    Controller,
    Broker,
}

/// One broker for all tests that neither kill it nor need security. A static is never dropped, so the watchdog stops it.
pub fn shared() -> &'static Broker {
    static SHARED: OnceLock<Broker> = OnceLock::new();
    SHARED.get_or_init(Broker::start)
}

impl Broker {
    /// With a plaintext listener only and the controller in the same process, which is the quickest to start.
    pub fn start() -> Broker {
        Broker::launch(false, false)
    }

    /// With SASL, TLS, and both on listeners of their own beside the plaintext one.
    pub fn start_secure() -> Broker {
        Broker::launch(true, false)
    }

    /// A broker that can be killed in the middle of transactions: its controller survives in a process of its own.
    ///
    /// Otherwise Kafka 4.3 loses transactions. A broker that is its own controller restarts as the leader that it was, until
    /// its old session expires. If a transaction times out in the meantime, its coordinator fails to send the markers to
    /// itself, then finds the partitions without a leader, treats them as deleted ("likely deleted already and hence can be
    /// skipped"), and records the transaction as complete. Its markers are never written to the partition.
    pub fn start_to_be_killed() -> Broker {
        Broker::launch(false, true)
    }

    fn launch(with_security: bool, with_controller_apart: bool) -> Broker {
        let folder = tempfile::Builder::new()
            .prefix("embedmill-kafka-")
            .disable_cleanup(std::env::var_os("EMBEDMILL_KAFKA_KEEP").is_some())
            .tempdir()
            .expect("the temporary folder takes a broker's data");
        let ports = free_ports(if with_security { 5 } else { 2 });
        let address = |index: usize| format!("127.0.0.1:{}", ports[index]);
        let role = if with_controller_apart { Role::Broker } else { Role::Both };
        let mut properties = properties(role, &address(1));
        let mut listeners = vec![("PLAINTEXT", address(0))];
        let mut node_ports = ports.clone();
        match role {
            Role::Both => listeners.push(("CONTROLLER", address(1))),
            _ => drop(node_ports.remove(1)),
        }
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

        let controller = with_controller_apart.then(|| controller(folder.path(), ports[1]));
        let mut node = Node::new(folder.path(), "broker", &properties, node_ports);
        let mut format = vec!["--cluster-id".to_string(), CLUSTER_ID.into()];
        if !with_controller_apart {
            format.push("--standalone".into());
        }
        if with_security {
            // The password is part of the first metadata.
            format.push("--add-scram".into());
            format.push(format!("SCRAM-SHA-256=[name={USER},password={PASSWORD}]"));
        }
        node.format(&format);
        node.start();
        Broker { node, controller, addr: address(0), secure, folder }
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

    /// The folder of data and logs.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Kills the broker with SIGKILL. A separate controller has noticed it when this returns.
    pub fn kill(&mut self) {
        let log_start = self.controller.as_ref().map_or(0, Node::log_bytes);
        self.node.kill();
        if let Some(controller) = &mut self.controller {
            controller.wait_for("Fencing broker 1", log_start);
        }
    }

    /// Starts the broker again on the same ports and data after `kill`, and waits until it answers.
    pub fn restart(&mut self) {
        self.node.start();
    }
}

/// A running controller.
fn controller(folder: &Path, port: u16) -> Node {
    let addr = format!("127.0.0.1:{port}");
    let properties = properties(Role::Controller, &addr) + &format!("listeners=CONTROLLER://{addr}\n");
    let mut node = Node::new(folder, "controller", &properties, vec![port]);
    node.format(&["--cluster-id".into(), CLUSTER_ID.into(), "--standalone".into()]);
    node.start();
    node
}

// ---------------------------------------------------------------------------------------------------------------------
// Configuration

fn properties(role: Role, controller_addr: &str) -> String {
    let (roles, id) = match role {
        Role::Both => ("broker,controller", 1),
        Role::Controller => ("controller", 2),
        Role::Broker => ("broker", 1),
    };
    format!(
        "\
process.roles={roles}
node.id={id}
controller.quorum.bootstrap.servers={controller_addr}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL
log.dirs=data
auto.create.topics.enable=false
# There is only one broker, so nothing can be replicated.
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
# Few and small files: the tests create many topics, and each partition has files of its own.
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
# After a kill, the controller takes a broker back only when its old session has expired; the default is 9 s.
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
# The default makes threads for large machines, for each listener anew.
num.network.threads=2
num.io.threads=4
"
    )
}

fn secure_properties(folder: &Path) -> String {
    let mut lines = format!(
        "\
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256
ssl.keystore.type=PKCS12
ssl.keystore.location={}
ssl.keystore.password={KEYSTORE_PASSWORD}
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:{USER}
",
        folder.join("server.p12").display()
    );
    for listener in ["sasl_plaintext", "sasl_ssl"] {
        let login = format!("listener.name.{listener}");
        let package = "org.apache.kafka.common.security";
        lines += &format!(
            "\
{login}.plain.sasl.jaas.config={package}.plain.PlainLoginModule required user_{USER}=\"{PASSWORD}\" \
user_{STRANGER}=\"{PASSWORD}\";
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
