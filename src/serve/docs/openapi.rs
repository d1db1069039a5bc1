//! The documents of the API, for people and programs. The tests hold them together.

/// OpenAPI 3.1.
pub const YAML: &str = include_str!("openapi.yaml");

/// The same as JSON; `build.rs` makes it.
pub const JSON: &str = include_str!(concat!(env!("OUT_DIR"), "/openapi.json"));

/// JSON Schema of one event.
pub const EVENT_SCHEMA: &str = include_str!("event.schema.json");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{parse_body, parse_record};
    use crate::serve::dashboard::View;
    use crate::serve::picture::PictureQuery;
    use crate::statistics::{Choice as _, Metric, PARAMETERS, Query};
    use serde_json::Value;

    fn openapi() -> Value {
        serde_yaml_ng::from_str(YAML).unwrap()
    }

    fn event_schema() -> Value {
        serde_json::from_str(EVENT_SCHEMA).unwrap()
    }

    #[test]
    fn openapi_json_is_openapi_yaml() {
        assert_eq!(serde_json::from_str::<Value>(JSON).unwrap(), openapi());
    }

    #[test]
    fn the_api_and_the_schema_say_the_same_of_an_event() {
        let mut schema = event_schema();
        let members = schema.as_object_mut().unwrap();
        assert!(members.remove("$schema").is_some() && members.remove("$id").is_some());
        assert_eq!(openapi()["components"]["schemas"]["Event"], schema);
    }

    #[test]
    fn the_version_is_the_programs() {
        let openapi = openapi();
        let about = &openapi["paths"]["/v1/"]["get"]["responses"]["200"]["content"]["application/json"];
        for version in [&openapi["info"]["version"], &about["example"]["version"]] {
            assert_eq!(version, env!("CARGO_PKG_VERSION"));
        }
    }

    #[test]
    fn the_parameters_of_the_report_are_those_that_are_read() {
        let openapi = openapi();
        let names = |path: &str| -> Vec<&str> {
            let listed = parameters(&openapi, path).into_iter();
            listed.map(|parameter| parameter["name"].as_str().unwrap()).collect()
        };
        assert_eq!(names("/v1/report"), [&PARAMETERS[..], &["format", "wait"]].concat());
        assert_eq!(names("/v1/report.svg"), [&PARAMETERS[..], &["theme", "badge"]].concat());
        let detail = |pair: &str| {
            let parsed = Query::parse(form_urlencoded::parse(pair.as_bytes()));
            parsed.err().map(|wrong| wrong[0].detail.clone()).unwrap_or_default()
        };
        for parameter in parameters(&openapi, "/v1/report") {
            let name = parameter["name"].as_str().unwrap();
            if !PARAMETERS.contains(&name) {
                continue;
            }
            let values = parameter["schema"]["enum"].as_array().into_iter().flatten();
            let values: Vec<&str> = values.map(|value| value.as_str().unwrap()).collect();
            if let Some(expected) = detail(&format!("{name}=-")).strip_prefix("not one of ") {
                assert_eq!(values.join(", "), expected, "{name}");
            }
        }
    }

    /// The parameters of a path.
    fn parameters<'a>(openapi: &'a Value, path: &str) -> Vec<&'a Value> {
        let listed = openapi["paths"][path]["get"]["parameters"].as_array().unwrap();
        let pointers = listed
            .iter()
            .map(|listed| listed["$ref"].as_str().unwrap().trim_start_matches('#'));
        pointers.map(|pointer| openapi.pointer(pointer).unwrap()).collect()
    }

    /// All values that a parameter of a path may have.
    fn pairs(openapi: &Value, path: &str) -> Vec<String> {
        let of = |parameter: &Value| {
            let name = parameter["name"].as_str().unwrap().to_string();
            let values = parameter["schema"]["enum"].as_array().cloned().unwrap_or_default();
            let text = |value: Value| value.as_str().map_or_else(|| value.to_string(), str::to_string);
            values
                .into_iter()
                .map(move |value| format!("{name}={}", text(value)))
                .collect::<Vec<_>>()
        };
        parameters(openapi, path).into_iter().flat_map(of).collect()
    }

    #[test]
    fn the_page_and_the_picture_take_the_values_that_are_documented() {
        let openapi = openapi();
        let page = pairs(&openapi, "/v1/dashboard");
        let picture = pairs(&openapi, "/v1/report.svg");
        assert!(
            page.len() > 40 && picture.len() > 50,
            "{} {}",
            page.len(),
            picture.len()
        );
        for pair in page {
            assert!(View::parse(&pair).is_ok(), "{pair}");
        }
        for pair in picture {
            let period = if pair.starts_with("period=") { "" } else { "&period=7d" };
            assert!(PictureQuery::parse(&format!("{pair}{period}")).is_ok(), "{pair}");
        }
    }

    #[test]
    fn the_metrics_of_the_report_are_those_that_are_counted() {
        let openapi = openapi();
        let components = &openapi["components"];
        let listed = components["parameters"]["Metrics"]["schema"]["items"]["enum"]
            .as_array()
            .unwrap();
        let listed: Vec<&str> = listed.iter().map(|name| name.as_str().unwrap()).collect();
        assert_eq!(listed.join(", "), Metric::names());
        let described = components["schemas"]["Metrics"]["properties"].as_object().unwrap();
        assert_eq!(described.len(), listed.len());
        assert!(listed.iter().all(|name| described.contains_key(*name)));
    }

    #[test]
    fn all_examples_of_events_are_events() {
        let openapi = openapi();
        let contents = &openapi["paths"]["/v1/events"]["post"]["requestBody"]["content"];
        let bodies = contents["application/json"]["examples"].as_object().unwrap();
        assert_eq!(bodies.len(), 2);
        for (name, body) in bodies {
            assert!(parse_body(body["value"].to_string().as_bytes(), 10).is_ok(), "{name}");
        }
        let lines = &contents["application/x-ndjson"]["examples"]["lines"]["value"];
        let lines: Vec<_> = lines.as_str().unwrap().lines().collect();
        assert_eq!(lines.len(), 2);
        let examples = event_schema()["examples"].clone();
        let examples = examples.as_array().unwrap().iter().map(Value::to_string);
        for line in lines.into_iter().map(str::to_string).chain(examples) {
            assert!(parse_record(line.as_bytes()).is_ok(), "{line}");
        }
    }

    #[test]
    fn all_commands_and_json_in_the_prose_are_good() {
        let event = event_schema()["examples"][0].to_string();
        let event: Value = serde_json::from_str(&event).unwrap();
        let openapi = openapi();
        let intro = openapi["info"]["description"].as_str().unwrap();
        let posted = intro.split("-d '").nth(1).unwrap().split('\'').next().unwrap();
        assert_eq!(serde_json::from_str::<Value>(posted).unwrap(), event);

        let stream = &openapi["paths"]["/v1/events/stream"]["get"]["description"];
        let blocks = stream.as_str().unwrap().split("```json\n").skip(1);
        let blocks: Vec<Value> = blocks
            .map(|block| serde_json::from_str(block.split("```").next().unwrap()).unwrap())
            .collect();
        assert_eq!(blocks.len(), 3);
        assert_eq!(blocks[0], event);
        assert_eq!(
            (&blocks[1]["status"], &blocks[2]["status"]),
            (&"accepted".into(), &422.into())
        );
    }

    /// The example of a problem has the status that it documents.
    #[test]
    fn every_problem_says_its_own_status() {
        let openapi = openapi();
        let mut seen = 0;
        for operations in openapi["paths"].as_object().unwrap().values() {
            for operation in operations.as_object().unwrap().values() {
                for (status, response) in operation["responses"].as_object().unwrap() {
                    let response = match response["$ref"].as_str() {
                        Some(name) => openapi.pointer(&name[1..]).unwrap(),
                        None => response,
                    };
                    let problem = &response["content"]["application/problem+json"];
                    let one = problem.get("example").into_iter();
                    let more = problem["examples"].as_object().into_iter().flatten();
                    for example in one.chain(more.map(|(_, example)| &example["value"])) {
                        assert_eq!(example["status"].to_string(), *status, "{example}");
                        seen += 1;
                    }
                }
            }
        }
        assert!(seen > 20, "{seen} examples");
    }
}
