//! `captcha serve new-key`: what it writes where.

use sha2::{Digest as _, Sha256};

use crate::world::World;

const NOWHERE: &str = "127.0.0.1:1";

#[tokio::test]
async fn a_new_key_needs_no_server_and_its_line_is_all_of_stdout() {
    let world = World::on("new_key", NOWHERE, NOWHERE);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.key");
    let words = ["serve", "new-key", "--role", "write", "--sites", "*"];
    let more = ["--rate", "100", "--key-out", path.to_str().unwrap()];
    let output = world.run(&[&words[..], &more].concat()).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");

    let key = std::fs::read_to_string(&path).unwrap();
    let id = key.split('_').nth(1).unwrap();
    let hash = Sha256::digest(&key);
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        format!("{id} write * sha256:{hash:x} rate=100 burst=100\n")
    );
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

#[tokio::test]
async fn a_key_is_not_shown_to_a_log() {
    let world = World::on("no_terminal", NOWHERE, NOWHERE);
    let words = ["serve", "new-key", "--role", "read", "--sites", "*"];
    let output = world.run(&words).await;
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("--key-out FILE"), "{stderr}");
    assert!(!stderr.contains("captcha_"), "{stderr}");
}
