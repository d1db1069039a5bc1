//! The documents about the API, as clients get them.

use std::io::Read as _;

use crate::client::{get, request};
use crate::world::World;

const PATHS: [(&str, &str); 4] = [
    ("openapi.yaml", "application/yaml"),
    ("openapi.json", "application/json"),
    ("schema", "application/schema+json"),
    ("docs", "text/html; charset=utf-8"),
];

#[tokio::test]
async fn documents_are_served_while_all_else_is_away() {
    let world = World::on("documents", "127.0.0.1:1", "127.0.0.1:1");
    let serve = world.serve().await;
    for (name, content_type) in PATHS {
        let path = format!("/v1/{name}");
        let reply = get(&serve.address, &path).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        assert_eq!(reply.header("content-type"), content_type, "{path}");
        for version in ["latest", "V1"] {
            let same = get(&serve.address, &format!("/{version}/{name}")).await;
            assert_eq!(same.body, reply.body, "{version}/{name}");
        }

        let head = request(&serve.address, "HEAD", &path, &[], "").await.unwrap();
        assert_eq!((head.status.as_u16(), head.body.len()), (200, 0), "{path}");
        assert_eq!(head.header("content-length"), reply.body.len().to_string(), "{path}");
        assert_eq!(head.header("etag"), reply.header("etag"), "{path}");

        let known = [("if-none-match", reply.header("etag"))];
        let unchanged = request(&serve.address, "GET", &path, &known, "").await.unwrap();
        assert_eq!((unchanged.status.as_u16(), unchanged.body.len()), (304, 0), "{path}");

        let gzip = request(&serve.address, "GET", &path, &[("accept-encoding", "br, gzip")], "");
        let gzip = gzip.await.unwrap();
        assert_eq!(gzip.header("content-encoding"), "gzip", "{path}");
        let mut inflated = Vec::new();
        flate2::read::GzDecoder::new(&gzip.body[..])
            .read_to_end(&mut inflated)
            .unwrap();
        assert!(inflated == reply.body, "{path}");

        let posted = request(&serve.address, "POST", &path, &[], "").await.unwrap();
        assert_eq!(posted.status, 405, "{path}");
        assert!(posted.header("allow").contains("GET, HEAD"), "{path}");
        let asked = get(&serve.address, &format!("{path}?page=2")).await;
        assert_eq!((asked.status.as_u16(), asked.places()), (422, vec!["page".to_string()]));
    }
    let inside = get(&serve.address, "/v1/docs/index.html").await;
    assert_eq!(inside.status, 404);
}
