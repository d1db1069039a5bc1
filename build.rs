//! Writes `openapi.json`, which `GET /v1/openapi.json` serves, from `openapi.yaml`.

use std::error::Error;
use std::path::Path;
use std::{env, fs};

const YAML: &str = "src/serve/docs/openapi.yaml";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={YAML}");
    // In the order of the file.
    let api: serde_yaml_ng::Value = serde_yaml_ng::from_str(&fs::read_to_string(YAML)?)?;
    let json = serde_json::to_string_pretty(&api)? + "\n";
    let folder = env::var_os("OUT_DIR").ok_or("cargo sets no OUT_DIR")?;
    fs::write(Path::new(&folder).join("openapi.json"), json)?;
    Ok(())
}
