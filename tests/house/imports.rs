//! Imports run one way: a room imports what lies below it, and no module imports in a circle, not even inside a room.
//!
//! The imports are read from the tokens of `src/`: `use`, and paths in code. A re-export (`pub use`) is followed to where
//! the name is defined, so a door that hands out what its room has is not an import of it. Tests import what they like.
//!
//! `make architecture` draws the rooms into `docs/architecture.md`, and the test fails when the picture is an old one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::root;
use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// Rooms from the top to the bottom. A room imports rooms of the lines below its own, and of no other.
const LAYERS: [&[&str]; 6] = [
    &["cli"],
    &["serve", "consume", "migrate", "report"],
    &["kafka", "clickhouse", "http", "site_names"],
    &["runtime", "tls", "resource_pool"],
    &["telemetry", "statistics", "rules"],
    &[
        "event",
        "topic_partition",
        "address",
        "tested_versions",
        "terminal",
        "backoff",
    ],
];

const PAGE: &str = "docs/architecture.md";
const PICTURE_BEGINS: &str = "<!-- rooms: made by `make architecture` -->\n```mermaid\n";
const PICTURE_ENDS: &str = "```\n";

/// A module, by its names from the root: `["kafka", "producer"]`. The root is empty.
type Module = Vec<String>;

/// Which module imports which.
type Imports = BTreeMap<Module, BTreeSet<Module>>;

/// The source of every module but the root, whose business is to know all rooms.
struct Sources {
    files: BTreeMap<Module, TokenStream>,
    /// Where a name that a module hands out comes from: (module, name) to its path.
    handed_out: BTreeMap<(Module, String), Module>,
}

impl Sources {
    fn read() -> Sources {
        let root = root().join("src");
        let mut files = BTreeMap::new();
        for path in rust_files(&root) {
            let relative = path.strip_prefix(&root).unwrap().with_extension("");
            let mut module: Module = relative.iter().map(|name| name.to_str().unwrap().to_string()).collect();
            if module.last().is_some_and(|name| name == "mod") {
                module.pop();
            }
            if !["main", "lib"].contains(&module[0].as_str()) {
                let text = fs::read_to_string(&path).unwrap();
                files.insert(
                    module,
                    text.parse().unwrap_or_else(|err| panic!("{}: {err}", path.display())),
                );
            }
        }
        let mut sources = Sources {
            files,
            handed_out: BTreeMap::new(),
        };
        let mut handed_out = BTreeMap::new();
        for (module, tokens) in &sources.files {
            for path in sources.paths(module, tokens.clone(), true) {
                handed_out.insert((module.clone(), path.last().unwrap().clone()), path);
            }
        }
        sources.handed_out = handed_out;
        sources
    }

    fn imports(&self) -> Imports {
        let of = |(module, tokens): (&Module, &TokenStream)| {
            let paths = self.paths(module, tokens.clone(), false);
            let imported = paths
                .iter()
                .map(|path| self.home(path))
                .filter(|home| home != module && !home.is_empty());
            (module.clone(), imported.collect())
        };
        self.files.iter().map(of).collect()
    }

    /// The module in which what a path names is defined.
    fn home(&self, path: &[String]) -> Module {
        let known = (0..=path.len())
            .rev()
            .find(|&length| self.files.contains_key(&path[..length]))
            .unwrap_or(0);
        let (module, rest) = path.split_at(known);
        let name = rest.first().map(|name| (module.to_vec(), name.clone()));
        match name.and_then(|name| self.handed_out.get(&name)) {
            Some(defined) => self.home(&[defined, &rest[1..]].concat()),
            None => module.to_vec(),
        }
    }

    /// The paths from the root that a module names: those of its re-exports, or all others.
    fn paths(&self, module: &Module, tokens: TokenStream, of_reexports: bool) -> Vec<Module> {
        let mut found = Vec::new();
        self.walk(module, tokens, of_reexports, &mut found);
        found
    }

    fn walk(&self, module: &Module, tokens: TokenStream, of_reexports: bool, found: &mut Vec<Module>) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let (mut at, mut is_public) = (0, false);
        while let Some(token) = tokens.get(at) {
            at += 1;
            match token {
                TokenTree::Group(group) if is_cfg_test(group) => {
                    // What is for tests alone: an item, up to its block or its semicolon.
                    while let Some(skipped) = tokens.get(at) {
                        at += 1;
                        let is_end = matches!(skipped, TokenTree::Punct(punct) if punct.as_char() == ';');
                        let is_block =
                            matches!(skipped, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace);
                        if is_end || is_block {
                            break;
                        }
                    }
                }
                TokenTree::Group(group) => self.walk(module, group.stream(), of_reexports, found),
                TokenTree::Ident(ident) if ident == "pub" => {
                    is_public = true;
                    // The parentheses of `pub(crate)` name no module.
                    if matches!(tokens.get(at), Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Parenthesis)
                    {
                        at += 1;
                    }
                    continue;
                }
                TokenTree::Ident(ident) if ident == "use" => {
                    let length = tokens[at..].iter().position(|token| token.to_string() == ";").unwrap();
                    if is_public == of_reexports {
                        let mut trees = Vec::new();
                        flatten(&tokens[at..at + length], &[], &mut trees);
                        found.extend(trees.iter().filter_map(|path| self.rooted(module, path)));
                    }
                    at += length;
                }
                TokenTree::Ident(_) if !of_reexports && !follows_path(&tokens, at - 1) => {
                    let path = path_at(&tokens, at - 1);
                    at += 3 * (path.len() - 1);
                    found.extend(self.rooted(module, &path));
                }
                _ => {}
            }
            is_public = false;
        }
    }

    /// A path of this crate from its root; `None` for those of other crates.
    fn rooted(&self, module: &Module, path: &[String]) -> Option<Module> {
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => Some(rest.to_vec()),
            "self" if !rest.is_empty() => Some([module, rest].concat()),
            "super" => {
                let above = path.iter().take_while(|name| *name == "super").count();
                let begin = &module[..module.len().checked_sub(above)?];
                Some([begin, &path[above..]].concat())
            }
            _ => {
                let child = [module, &path[..1]].concat();
                let is_child = path.len() > 1 && self.files.contains_key(&child);
                is_child.then(|| [module, path].concat())
            }
        }
    }
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(rust_files(&path)),
            // Modules of tests have files of their own in some places.
            false if path.ends_with("tests.rs") => {}
            false if path.extension().is_some_and(|extension| extension == "rs") => files.push(path),
            false => {}
        }
    }
    files
}

fn is_cfg_test(group: &proc_macro2::Group) -> bool {
    group.delimiter() == Delimiter::Bracket && group.stream().to_string().replace(' ', "") == "cfg(test)"
}

/// Whether the token at an index goes on with a path or a field, so that no path begins there.
fn follows_path(tokens: &[TokenTree], at: usize) -> bool {
    let before = at.checked_sub(1).and_then(|before| tokens.get(before));
    matches!(before, Some(TokenTree::Punct(punct)) if [':', '.'].contains(&punct.as_char()) && {
        let earlier = at.checked_sub(2).and_then(|earlier| tokens.get(earlier));
        punct.as_char() == '.' || matches!(earlier, Some(TokenTree::Punct(punct)) if punct.as_char() == ':')
    })
}

/// The names of the path that begins at an index: `a::b::c`.
fn path_at(tokens: &[TokenTree], mut at: usize) -> Vec<String> {
    let mut path = vec![tokens[at].to_string()];
    while let [first, second, TokenTree::Ident(name), ..] = &tokens[at + 1..] {
        if first.to_string() != ":" || second.to_string() != ":" {
            break;
        }
        path.push(name.to_string());
        at += 3;
    }
    path
}

/// The paths of a `use` tree, without what they are renamed to.
fn flatten(tree: &[TokenTree], prefix: &[String], paths: &mut Vec<Module>) {
    let is_comma = |token: &TokenTree| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ',');
    for branch in tree.split(is_comma).filter(|branch| !branch.is_empty()) {
        let mut path = prefix.to_vec();
        let mut is_whole = true;
        for token in branch {
            match token {
                TokenTree::Ident(ident) if ident == "as" => break,
                TokenTree::Ident(ident) if ident == "self" && !path.is_empty() => {}
                TokenTree::Ident(ident) => path.push(ident.to_string()),
                TokenTree::Group(group) => {
                    let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                    flatten(&inner, &path, paths);
                    is_whole = false;
                }
                _ => {}
            }
        }
        if is_whole {
            paths.push(path);
        }
    }
}

/// A way from a module back to itself, if there is one.
fn circle(imports: &Imports) -> Option<Vec<Module>> {
    let mut done = BTreeSet::new();
    imports
        .keys()
        .find_map(|module| search(imports, module, &mut Vec::new(), &mut done))
}

fn search(
    imports: &Imports,
    module: &Module,
    way: &mut Vec<Module>,
    done: &mut BTreeSet<Module>,
) -> Option<Vec<Module>> {
    if let Some(begin) = way.iter().position(|passed| passed == module) {
        return Some([&way[begin..], std::slice::from_ref(module)].concat());
    }
    if !done.insert(module.clone()) {
        return None;
    }
    way.push(module.clone());
    let found = imports[module].iter().find_map(|next| search(imports, next, way, done));
    way.pop();
    found
}

/// Which room imports which.
fn rooms(imports: &Imports) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut rooms: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (module, imported) in imports {
        let room = module[0].as_str();
        let others = imported
            .iter()
            .map(|other| other[0].as_str())
            .filter(|other| *other != room);
        rooms.entry(room).or_default().extend(others);
    }
    rooms
}

fn layer(room: &str) -> usize {
    let layer = LAYERS.iter().position(|rooms| rooms.contains(&room));
    layer.unwrap_or_else(|| panic!("the room {room} has no layer: add it to LAYERS in tests/house/imports.rs"))
}

/// The rooms as Mermaid draws them, one line of rooms for each layer.
fn picture(rooms: &BTreeMap<&str, BTreeSet<&str>>) -> String {
    let mut text = "flowchart TD\n".to_string();
    for (number, layer) in LAYERS.iter().enumerate() {
        text += &format!("  subgraph layer{number}[\" \"]\n    direction LR\n");
        for room in *layer {
            text += &format!("    {room}\n");
        }
        text += "  end\n";
    }
    for (room, imported) in rooms {
        for other in imported {
            text += &format!("  {room} --> {other}\n");
        }
    }
    text
}

#[test]
fn no_module_imports_in_a_circle() {
    let imports = Sources::read().imports();
    assert!(
        imports.values().map(BTreeSet::len).sum::<usize>() > 100,
        "hardly any import was found: {imports:?}"
    );
    let circle = circle(&imports).map(|way| {
        way.iter()
            .map(|module| module.join("::"))
            .collect::<Vec<_>>()
            .join(" -> ")
    });
    assert_eq!(circle, None, "these modules import one another");
}

#[test]
fn a_room_imports_what_lies_below_it() {
    let imports = Sources::read().imports();
    for (room, imported) in rooms(&imports) {
        for other in imported {
            assert!(
                layer(room) < layer(other),
                "{room} imports {other}, which does not lie below it"
            );
        }
    }
}

#[test]
fn the_picture_of_the_rooms_is_the_code() {
    let page = root().join(PAGE);
    let text = fs::read_to_string(&page).unwrap();
    let imports = Sources::read().imports();
    let picture = picture(&rooms(&imports));
    let (before, rest) = text.split_once(PICTURE_BEGINS).expect(PICTURE_BEGINS);
    let (drawn, after) = rest.split_once(PICTURE_ENDS).expect(PICTURE_ENDS);
    if std::env::var_os("UPDATE_ARCHITECTURE").is_some() {
        return fs::write(&page, [before, PICTURE_BEGINS, &picture, PICTURE_ENDS, after].concat()).unwrap();
    }
    assert!(
        drawn == picture,
        "{PAGE} shows rooms that are not those of the code: run make architecture"
    );
}

#[test]
fn circles_are_found() {
    let module = |name: &str| vec![name.to_string()];
    let imports = |pairs: &[(&str, &str)]| {
        let mut imports = Imports::new();
        for (from, to) in pairs {
            imports.entry(module(from)).or_default().insert(module(to));
            imports.entry(module(to)).or_default();
        }
        imports
    };
    assert_eq!(circle(&imports(&[("a", "b"), ("a", "c"), ("b", "c")])), None);
    let way = circle(&imports(&[("a", "b"), ("b", "c"), ("c", "b")])).unwrap();
    assert_eq!(way, [module("b"), module("c"), module("b")]);
}
