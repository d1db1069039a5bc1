//! Kafka with TLS, logins and rights: what works with the least of them, and what is said where something is wrong.

use crate::certificates::{Authority, Certified, Valid, silent_port, text, tls_in_front_of};
use crate::client::{events, try_post};
use crate::process::{ACLS, Server, eventually, free_port, kafka_tool, shared};
use crate::world::World;

/// Kafka's tool for rights.
/// Topics whose names begin so are open to the users by their roles.
const TOPICS: &str = "secure";

const SERVE: &str = "captcha-serve";
const CONSUME: &str = "captcha-consume";
const MIGRATE: &str = "captcha-migrate";

/// Who may describe such topics and do nothing else.
const LOOKER: &str = "looker";

/// A broker with listeners of every kind.
struct SecureKafka {
    server: Server,
    authority: Authority,
    /// TLS and SASL, PLAIN and SCRAM.
    sasl_ssl: String,
    /// TLS with client certificates.
    ssl: String,
    /// SASL without TLS, SCRAM-SHA-512 alone.
    sasl: String,
    folder: tempfile::TempDir,
}

impl SecureKafka {
    async fn start() -> SecureKafka {
        let authority = Authority::new();
        let folder = tempfile::tempdir().unwrap();
        let [sasl_ssl, ssl, sasl, controller] = [(); 4].map(|()| free_port());
        let mut kafka = SecureKafka {
            server: Server::new("kafka"),
            authority,
            sasl_ssl: format!("localhost:{sasl_ssl}"),
            ssl: format!("localhost:{ssl}"),
            sasl: format!("127.0.0.1:{sasl}"),
            folder,
        };
        kafka.trust(&kafka.authority.server(), &kafka.authority);
        let plain = kafka.server.address();
        let users = [SERVE, CONSUME, MIGRATE, LOOKER];
        let plain_users = users.map(|user| format!("user_{user}=\"{user}-pw\"")).join(" ");
        let file = |name: &str| kafka.folder.path().join(name).display().to_string();
        let module = "org.apache.kafka.common.security";
        let settings = [
            format!(
                "listeners=PLAINTEXT://{plain},SASL_SSL://127.0.0.1:{sasl_ssl},SSL://127.0.0.1:{ssl},\
                 SASL_PLAINTEXT://127.0.0.1:{sasl},CONTROLLER://127.0.0.1:{controller}"
            ),
            format!(
                "advertised.listeners=PLAINTEXT://{plain},SASL_SSL://localhost:{sasl_ssl},\
                 SSL://localhost:{ssl},SASL_PLAINTEXT://127.0.0.1:{sasl}"
            ),
            "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,\
             SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT"
                .to_string(),
            "inter.broker.listener.name=PLAINTEXT".to_string(),
            "ssl.keystore.type=PEM".to_string(),
            format!("ssl.keystore.location={}", file("broker.pem")),
            "ssl.truststore.type=PEM".to_string(),
            format!("ssl.truststore.location={}", file("ca.pem")),
            "listener.name.ssl.ssl.client.auth=required".to_string(),
            "ssl.principal.mapping.rules=RULE:^CN=([^,]+).*$/$1/,DEFAULT".to_string(),
            "sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512".to_string(),
            "listener.name.sasl_plaintext.sasl.enabled.mechanisms=SCRAM-SHA-512".to_string(),
            format!(
                "listener.name.sasl_ssl.plain.sasl.jaas.config={module}.plain.PlainLoginModule required {plain_users};"
            ),
            format!("listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config={module}.scram.ScramLoginModule required;"),
            format!("listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config={module}.scram.ScramLoginModule required;"),
            format!(
                "listener.name.sasl_plaintext.scram-sha-512.sasl.jaas.config={module}.scram.ScramLoginModule required;"
            ),
            // Connections that are older are hung up on, unless they log in again, which ours never do.
            "connections.max.reauth.ms=2000".to_string(),
            "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer".to_string(),
            "super.users=User:ANONYMOUS".to_string(),
        ];
        let mut args = vec!["--controller-port".to_string(), controller.to_string()];
        for setting in settings {
            args.extend(["--set".to_string(), setting]);
        }
        for user in users {
            for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
                let scram = format!("{mechanism}=[name={user},password={user}-pw]");
                args.extend(["--scram".to_string(), scram]);
            }
        }
        kafka.server.set_args(args);
        kafka.server.start_and_listen().await;
        kafka.allow(SERVE, &["Write", "Describe"]).await;
        kafka.allow(CONSUME, &["Read", "Describe"]).await;
        let migrate = ["Create", "Describe", "DescribeConfigs"];
        kafka.allow(MIGRATE, &migrate).await;
        kafka.allow(LOOKER, &["Describe"]).await;
        kafka
    }

    /// What it shows, and whom it believes, from its next start on.
    fn trust(&self, certified: &Certified, clients: &Authority) {
        let read = |path| std::fs::read_to_string(path).unwrap();
        let both = read(&certified.key) + &read(&certified.certificate);
        std::fs::write(self.folder.path().join("broker.pem"), both).unwrap();
        std::fs::copy(clients.file(), self.folder.path().join("ca.pem")).unwrap();
    }

    async fn allow(&self, user: &str, operations: &[&str]) {
        let principal = format!("User:{user}");
        let mut args = vec!["--add", "--allow-principal", &principal];
        args.extend(["--topic", TOPICS, "--resource-pattern-type", "prefixed"]);
        for operation in operations {
            args.extend(["--operation", operation]);
        }
        let address = self.server.address();
        eventually("kafka to take rights", async || {
            // It listens before it knows who leads.
            let output = crate::process::java_class(ACLS, &address).args(&args).output().await;
            let output = output.unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            output.status.success().then_some(()).ok_or(said)
        })
        .await;
    }

    fn world(&self, test: &str) -> World {
        let clickhouse = shared("CAPTCHA_TEST_CLICKHOUSE");
        World::on(&format!("{TOPICS}_{test}"), &self.server.address(), &clickhouse)
    }

    /// A file with a password.
    fn password(&self, name: &str, password: &str) -> String {
        let file = self.folder.path().join(name);
        std::fs::write(&file, format!("{password}\n")).unwrap();
        text(&file).to_string()
    }

    fn tls(&self, address: &str) -> Vec<String> {
        let ca = self.authority.file();
        words(&["--kafka-brokers", address, "--kafka-tls", "--kafka-ca-file", text(&ca)])
    }

    fn login(&self, mechanism: &str, user: &str, password: &str) -> Vec<String> {
        let file = self.password(&format!("{user}-{password}"), password);
        let login = ["--kafka-sasl-mechanism", mechanism, "--kafka-user", user];
        words(&[&login[..], &["--kafka-password-file", &file]].concat())
    }

    fn certificate(&self, certified: &Certified) -> Vec<String> {
        let (certificate, key) = (text(&certified.certificate), text(&certified.key));
        let flags = ["--kafka-client-certificate-file", certificate];
        words(&[&flags[..], &["--kafka-client-key-file", key]].concat())
    }

    /// How a user gets in, in one of the ways that there are.
    fn way(&self, way: &str, user: &str) -> Vec<String> {
        let password = format!("{user}-pw");
        match way {
            "certificate" => {
                let certified = self.authority.certify(user, &[], Valid::Now);
                [self.tls(&self.ssl), self.certificate(&certified)].concat()
            }
            "in the clear" => {
                let login = self.login("scram-sha-512", user, &password);
                [words(&["--kafka-brokers", &self.sasl]), login].concat()
            }
            mechanism => {
                let login = self.login(mechanism, user, &password);
                [self.tls(&self.sasl_ssl), login].concat()
            }
        }
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| word.to_string()).collect()
}

fn with<'a>(command: &[&'a str], args: &'a [String]) -> Vec<&'a str> {
    let args = args.iter().map(String::as_str);
    command.iter().copied().chain(args).collect()
}

/// Posts the same events until they are accepted. On a busy machine a login may take as long as the broker lets a
/// connection live, and 503 is the answer then.
async fn send(address: &str, events: serde_json::Value) {
    eventually("events to be accepted", async || {
        let reply = try_post(address, &events).await?;
        assert!([200, 503].contains(&reply.status.as_u16()), "{}", reply.text());
        (reply.status == 200).then_some(()).ok_or(reply.text())
    })
    .await;
}

/// Everything from migrate to the audit, each as its own user with the least rights.
async fn whole_path(kafka: &SecureKafka, way: &str) {
    let test = way.replace([' ', '-'], "_");
    let world = kafka.world(&test);
    let (migrate, serve, consume) = (kafka.way(way, MIGRATE), kafka.way(way, SERVE), kafka.way(way, CONSUME));
    world.ok(&with(&["migrate"], &migrate)).await;
    let said = world.ok(&with(&["migrate"], &migrate)).await;
    assert!(said.starts_with("nothing to do"), "{way}: {said}");
    let serve = world.serve_with(&with(&[], &serve)).await;
    let reader = world.consume(&with(&[], &consume)).await;
    send(&serve.address, events(20)).await;
    // Longer than the broker lets a connection live; each one is hung up on in the middle.
    let until = tokio::time::Instant::now() + std::time::Duration::from_secs(5);
    let mut sent = 20;
    while tokio::time::Instant::now() < until {
        send(&serve.address, events(3)).await;
        sent += 3;
    }
    world.await_counted(sent).await;
    reader.await_ready(200, "partition 0: ok").await;
    world.ok(&with(&["report", "audit"], &consume)).await;
}

#[tokio::test]
async fn every_way_in_with_the_least_rights() {
    let kafka = SecureKafka::start().await;
    let ways = ["scram-sha-512", "scram-sha-256", "plain", "certificate", "in the clear"];
    // One after the other: each starts a dozen processes, and beside other tests that is enough.
    for way in ways {
        whole_path(&kafka, way).await;
    }
}

#[tokio::test]
async fn certificates_and_passwords_change_without_a_restart() {
    let mut kafka = SecureKafka::start().await;
    let world = kafka.world("rotation");
    world.migrate(&[]).await;
    let serve = kafka.way("scram-sha-512", SERVE);
    let consume = kafka.way("certificate", CONSUME);
    let serve = world.serve_with(&with(&[], &serve)).await;
    let reader = world.consume(&with(&[], &consume)).await;
    send(&serve.address, events(10)).await;
    world.await_counted(10).await;

    let alter = ["--alter", "--add-config", "SCRAM-SHA-512=[password=new]"];
    let user = ["--entity-type", "users", "--entity-name", SERVE];
    let address = kafka.server.address();
    kafka_tool("kafka.admin.ConfigCommand", &address, &[&alter[..], &user].concat()).await;
    let next = Authority::new();
    kafka.trust(&next.server(), &next);
    kafka.server.stop().await;
    kafka.server.start_and_listen().await;
    serve.await_ready(503, "signed by none of the authorities in").await;
    reader.await_ready(503, "signed by none of the authorities in").await;

    std::fs::copy(next.file(), kafka.authority.file()).unwrap();
    serve.await_ready(503, "wrong user or password").await;
    reader.await_ready(503, "it refuses the client certificate").await;

    kafka.password(&format!("{SERVE}-{SERVE}-pw"), "new");
    let old = Certified {
        certificate: kafka.authority.file().with_file_name(format!("{CONSUME}.pem")),
        key: kafka.authority.file().with_file_name(format!("{CONSUME}.key")),
    };
    next.certify(CONSUME, &[], Valid::Now).replace(&old);
    serve.await_ready(200, "kafka: ok").await;
    reader.await_ready(200, "partition 0: ok").await;
    send(&serve.address, events(1)).await;
    world.await_counted(11).await;
}

#[tokio::test]
async fn what_is_wrong_is_said() {
    let kafka = SecureKafka::start().await;
    let world = kafka.world("wrong");
    let plain = kafka.server.address();
    let other = Authority::new();
    let own = &kafka.authority;
    let localhost = ["localhost", "127.0.0.1"];
    let in_front = async |certified: Certified| tls_in_front_of(&certified, &plain).await;
    let expired = in_front(own.certify("expired", &localhost, Valid::Past)).await;
    let early = in_front(own.certify("early", &localhost, Valid::Future)).await;
    let elsewhere = in_front(own.certify("elsewhere", &["example.org"], Valid::Now)).await;
    let silent = silent_port().await;
    let http = shared("CAPTCHA_TEST_CLICKHOUSE");
    let at = |address: &str| words(&["--kafka-brokers", address]);
    let trusting =
        |address: &str, file: &str| words(&["--kafka-brokers", address, "--kafka-tls", "--kafka-ca-file", file]);
    let login = |mechanism, user, password| kafka.login(mechanism, user, password);
    let certificate = |certified: Certified| kafka.certificate(&certified);
    let foreign = text(&other.file()).to_string();
    let garbage = kafka.password("garbage", "no certificate");
    let key = text(&other.server().key).to_string();
    let mismatched = words(&[
        "--kafka-client-certificate-file",
        text(&own.server().certificate),
        "--kafka-client-key-file",
        &key,
    ]);

    let cases: Vec<(Vec<String>, String)> = [
        (
            [kafka.tls(&kafka.sasl_ssl), login("scram-sha-512", MIGRATE, "wrong")].concat(),
            "refused the login of user captcha-migrate with SCRAM-SHA-512: wrong user or password; check --kafka-user and its password",
        ),
        (
            [kafka.tls(&kafka.sasl_ssl), login("scram-sha-256", MIGRATE, "wrong")].concat(),
            "refused the login of user captcha-migrate with SCRAM-SHA-256: wrong user or password",
        ),
        (
            [kafka.tls(&kafka.sasl_ssl), login("plain", MIGRATE, "wrong")].concat(),
            "refused the login of user captcha-migrate with PLAIN: wrong user or password",
        ),
        (
            [kafka.tls(&kafka.sasl_ssl), login("scram-sha-512", "stranger", "x")].concat(),
            "refused the login of user stranger with SCRAM-SHA-512: wrong user or password",
        ),
        (
            [at(&kafka.sasl), login("scram-sha-256", MIGRATE, "x")].concat(),
            "that port does not offer it; check --kafka-sasl-mechanism and --kafka-brokers",
        ),
        (
            [at(&plain), login("scram-sha-512", MIGRATE, "x")].concat(),
            "that port does not offer it; check --kafka-sasl-mechanism and --kafka-brokers",
        ),
        (
            [kafka.tls(&kafka.sasl_ssl), login("scram-sha-512", MIGRATE, "")].concat(),
            "refused the login of user captcha-migrate with SCRAM-SHA-512: ",
        ),
        (kafka.tls(&kafka.sasl_ssl), "does it need --kafka-sasl-mechanism?"),
        (at(&kafka.sasl), "does it need --kafka-sasl-mechanism?"),
        (
            trusting(&kafka.sasl_ssl, &foreign),
            "with tls: its certificate is signed by none of the authorities in ",
        ),
        (
            words(&["--kafka-brokers", &kafka.sasl_ssl, "--kafka-tls"]),
            "; check --kafka-brokers and --kafka-ca-file",
        ),
        (kafka.tls(&expired), "with tls: its certificate has expired; check"),
        (
            kafka.tls(&early),
            "with tls: its certificate is not valid yet; look at both clocks; check",
        ),
        (kafka.tls(&elsewhere), "with tls: its certificate is for other names; check"),
        (
            kafka.tls(&plain),
            "with tls: it hung up in the tls handshake; is it a port without?; check",
        ),
        (at(&kafka.ssl), "and whether that port needs --kafka-tls"),
        (at(&http), "cannot talk to kafka at "),
        (at(&silent), "no answer within 3 s; check --kafka-brokers"),
        (kafka.tls(&silent), "no answer within 3 s; check --kafka-brokers"),
        (kafka.tls(&kafka.ssl), "it asks for a client certificate"),
        (
            [kafka.tls(&kafka.ssl), certificate(other.certify("foreign", &[], Valid::Now))].concat(),
            "it refuses the client certificate: ",
        ),
        (
            [kafka.tls(&kafka.ssl), certificate(own.certify("old", &[], Valid::Past))].concat(),
            "it refuses the client certificate: ",
        ),
        (
            kafka.way("certificate", "stranger"),
            "error 29 (TopicAuthorizationFailed); allow captcha to describe, read and write the topic",
        ),
        (kafka.way("plain", LOOKER), "; check the acls and the log of kafka, or create the topic by hand"),
        (
            trusting(&kafka.sasl_ssl, "/nowhere/ca.pem"),
            "kafka: cannot read /nowhere/ca.pem: ",
        ),
        (trusting(&kafka.sasl_ssl, &garbage), "holds no certificate; expected PEM"),
        ([kafka.tls(&kafka.ssl), mismatched].concat(), " is not the key of "),
        (
            [at(&kafka.sasl), login("plain", MIGRATE, "x")].concat(),
            "kafka: sasl plain would send the password in the clear; add --kafka-tls, or use scram-sha-512",
        ),
        (
            words(&["--kafka-user", "u", "--kafka-sasl-mechanism", "scram-sha-512"]),
            "kafka: user u has no password; give --kafka-password-file",
        ),
    ]
    .map(|(args, reason)| (args, reason.to_string()))
    .into();
    for (args, reason) in &cases {
        let line = world.refused(&with(&["migrate"], args)).await;
        assert!(line.contains(reason.as_str()), "{args:?}: {line}");
        assert!(!line.contains("-pw"), "{line}");
    }
    for flags in [["--kafka-user", "u"], ["--kafka-ca-file", "ca.pem"]] {
        let output = world.run(&[&["migrate"][..], &flags].concat()).await;
        assert_eq!(output.status.code(), Some(2), "{flags:?}");
    }

    // What goes on says it where it is looked for, and goes on.
    world.migrate(&[]).await;
    let wrong = [
        (login("scram-sha-512", SERVE, "wrong"), "wrong user or password", true),
        (
            kafka.login("scram-sha-512", LOOKER, "looker-pw"),
            "error 29 (TopicAuthorizationFailed)",
            false,
        ),
    ];
    for (login, reason, is_login_refused) in wrong {
        let args = [kafka.tls(&kafka.sasl_ssl), login].concat();
        let consume = world.consume(&with(&[], &args)).await;
        consume.await_ready(503, reason).await;
        let serve = world.serve_with(&with(&[], &args)).await;
        eventually("a 503", async || {
            let reply = try_post(&serve.address, &events(1)).await?;
            (reply.status == 503).then_some(()).ok_or(reply.text())
        })
        .await;
        serve.await_said(reason).await;
        for process in [&serve, &consume] {
            let refused = process.metric("captcha_logins_refused_total{server=\"kafka\"}").await;
            assert_eq!(refused > 0.0, is_login_refused, "{reason}: {refused}");
        }
    }
}

#[tokio::test]
async fn a_topic_a_user_and_a_right_that_somebody_makes_later_are_waited_for() {
    const LATE: &str = "late";
    let kafka = SecureKafka::start().await;
    let wait = words(&["migrate", "--wait", "3600"]);
    let start = |world: &World, login: Vec<String>| {
        let args = [wait.clone(), login].concat();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        world.start("migrate", &args)
    };

    let world = kafka.world("waited_for");
    let mut migrate = start(&world, kafka.way("plain", LOOKER));
    let reason = "waiting up to 3600 s: kafka refuses to create topic ";
    migrate.await_said(&format!("{reason}{}: ", world.name)).await;
    world.migrate(&[]).await;
    let reason = "waiting up to 3600 s: kafka did not describe the configuration of topic";
    migrate.await_said(reason).await;
    kafka.allow(LOOKER, &["DescribeConfigs"]).await;
    assert!(migrate.ended().await.success());

    let world = kafka.world("late");
    let login = kafka.login("scram-sha-512", LATE, "late-pw");
    let mut migrate = start(&world, [kafka.tls(&kafka.sasl_ssl), login].concat());
    let reason = format!(
        "waiting up to 3600 s: kafka at {} refused the login of user late",
        kafka.sasl_ssl
    );
    migrate.await_said(&reason).await;
    let alter = ["--alter", "--add-config", "SCRAM-SHA-512=[password=late-pw]"];
    let user = ["--entity-type", "users", "--entity-name", LATE];
    let address = kafka.server.address();
    kafka_tool("kafka.admin.ConfigCommand", &address, &[&alter[..], &user].concat()).await;
    let reason = format!(
        "waiting up to 3600 s: kafka did not describe topic {}: error 29 ",
        world.name
    );
    migrate.await_said(&reason).await;
    kafka.allow(LATE, &["Create", "Describe", "DescribeConfigs"]).await;
    assert!(migrate.ended().await.success());

    let wrong = kafka.login("scram-sha-512", MIGRATE, "wrong");
    let wrong = [kafka.tls(&kafka.sasl_ssl), wrong].concat();
    let line = world.refused(&with(&["migrate", "--wait", "1"], &wrong)).await;
    assert!(line.starts_with("captcha: gave up after 1 s: kafka at "), "{line}");
    assert!(line.contains("wrong user or password"), "{line}");
}
