//! From paths to routes, in all spellings that clients use.

use super::docs;

/// The resource of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// The name, the version and the paths of this API.
    About,
    /// Events of a request.
    Events,
    /// Events as messages of a WebSocket.
    Stream,
    Report,
    /// The numbers of a report as a page.
    Dashboard,
    /// A report as a picture.
    Picture,
    Document(docs::Name),
    Unknown,
}

impl Route {
    /// The route of a path in any of its spellings.
    pub fn from_path(path: &str) -> Route {
        let versions = ["/v1", "/latest", "/V1"];
        let rest = versions
            .iter()
            .filter_map(|version| path.strip_prefix(version))
            .find(|rest| rest.is_empty() || rest.starts_with('/'));
        if let Some(name) = rest.and_then(docs::Name::from_path) {
            return Route::Document(name);
        }
        match rest.map(|rest| rest.trim_end_matches('/')) {
            Some("") => Route::About,
            Some("/events" | "/event") => Route::Events,
            Some("/events/stream") => Route::Stream,
            Some("/report") => Route::Report,
            Some("/dashboard") => Route::Dashboard,
            Some("/report.svg") => Route::Picture,
            _ => Route::Unknown,
        }
    }

    /// The values of the label `route`.
    pub const NAMES: [&str; 8] = [
        "about",
        "dashboard",
        "document",
        "events",
        "other",
        "picture",
        "report",
        "stream",
    ];

    /// The methods of the path, as `Allow` lists them.
    pub fn methods(self) -> &'static str {
        match self {
            Route::Events => "POST, OPTIONS",
            Route::About | Route::Report | Route::Dashboard | Route::Picture | Route::Document(_) => {
                "GET, HEAD, OPTIONS"
            }
            Route::Stream => "GET, OPTIONS",
            Route::Unknown => "",
        }
    }

    /// The value of the label `route`.
    pub fn name(self) -> &'static str {
        match self {
            Route::About => "about",
            Route::Events => "events",
            Route::Stream => "stream",
            Route::Report => "report",
            Route::Dashboard => "dashboard",
            Route::Picture => "picture",
            Route::Document(_) => "document",
            Route::Unknown => "other",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_spellings_of_the_paths() {
        let document = |path| Route::Document(docs::Name::from_path(path).unwrap());
        for (path, route) in [
            ("/v1/events", Route::Events),
            ("/v1/events/", Route::Events),
            ("/v1/event", Route::Events),
            ("/V1/event", Route::Events),
            ("/V1/events", Route::Events),
            ("/latest/events", Route::Events),
            ("/latest/event", Route::Events),
            ("/v1/events/stream", Route::Stream),
            ("/V1/events/stream/", Route::Stream),
            ("/latest/events/stream", Route::Stream),
            ("/v1/stream", Route::Unknown),
            ("/v1/report", Route::Report),
            ("/V1/report", Route::Report),
            ("/v1/dashboard", Route::Dashboard),
            ("/latest/dashboard/", Route::Dashboard),
            ("/v1/report.svg", Route::Picture),
            ("/v1/dashboard.css", document("/dashboard.css")),
            ("/latest/report", Route::Report),
            ("/v1/docs", document("/docs")),
            ("/latest/docs/", document("/docs/")),
            ("/V1/openapi.json", document("/openapi.json")),
            ("/v1/docs/page.js", document("/docs/page.js")),
            ("/v1/docs/page.html", Route::Unknown),
            ("/docs", Route::Unknown),
            ("/v1", Route::About),
            ("/v1/", Route::About),
            ("/latest/", Route::About),
            ("/", Route::Unknown),
            ("/events", Route::Unknown),
            ("/v1events", Route::Unknown),
            ("/v12/events", Route::Unknown),
            ("/v1/Events", Route::Unknown),
            ("/LATEST/events", Route::Unknown),
            ("/v1/events/7", Route::Unknown),
            ("/v2/events", Route::Unknown),
        ] {
            assert_eq!(Route::from_path(path), route, "{path}");
        }
    }
}
