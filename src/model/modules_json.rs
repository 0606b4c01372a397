//! modules.json in, the modules that a text goes through out: in order, each with its class and folder.
//!
//! Two generations of names are about; both end in the class. A Router (once called Asym) stands for the modules of one of
//! its routes, chosen as sentence-transformers chooses by task for a text: `model.route` is the task. Every path is held
//! inside the model's folder.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::LoadError;
use super::config_file::{ConfigFile, read_json, short};
use super::files::stays_inside;
use super::module_classes::ModuleClass;

/// One module as the files list it.
#[derive(Debug, Clone)]
pub struct ModuleEntry {
    /// `None` where it is not a supported class.
    pub class: Option<ModuleClass>,
    /// The type as it is written.
    pub module_type: String,
    /// Relative to the model's folder; empty where the module lies in it.
    pub path: String,
    /// The file that lists it, and where in it, for errors.
    pub listed_in: PathBuf,
    pub position: String,
}

impl ModuleEntry {
    fn new(module_type: &str, path: String, listed_in: &Path, position: String) -> Result<ModuleEntry, LoadError> {
        if !path.is_empty() && !stays_inside(&path) {
            return Err(LoadError::model(listed_in, format!("`path` {path:?} of {position} leaves the folder")));
        }
        let (class, module_type) = (ModuleClass::of(module_type), module_type.to_owned());
        Ok(ModuleEntry { class, module_type, path, listed_in: listed_in.to_owned(), position })
    }

    /// Refuses the module: "modules.json: module 2 is TYPE, …".
    pub fn refuse(&self, what: impl std::fmt::Display) -> LoadError {
        LoadError::model(&self.listed_in, format!("{} is {:?}, {what}", self.position, self.module_type))
    }

    fn is_router(&self) -> bool {
        self.class == Some(ModuleClass::Router)
    }
}

/// Modules in the order in which a text goes through them.
#[derive(Debug)]
pub struct RoutedModules {
    pub entries: Vec<ModuleEntry>,
    /// Whether a Router stood among them.
    pub routed: bool,
}

/// Most modules of a chain, and most entries of a Router; no model comes near.
const MODULES_MAX: usize = 256;

/// The modules of `task`'s route; `None` for a folder without modules.json, which is a plain Hugging Face model.
pub fn route(folder: &Path, task: Option<&str>) -> Result<Option<RoutedModules>, LoadError> {
    let Some(listed) = listed(folder)? else {
        return match task {
            Some(_) => Err(no_router(task)),
            None => Ok(None),
        };
    };
    let mut route = RoutedModules { entries: Vec::new(), routed: false };
    for entry in listed {
        if entry.is_router() {
            let router = Router::read(folder, &entry)?;
            let name = router.resolve(task)?;
            route.entries.extend(router.modules(name)?);
            route.routed = true;
        } else {
            route.entries.push(entry);
        }
    }
    if task.is_some() && !route.routed {
        return Err(no_router(task));
    }
    if let Some(nested) = route.entries.iter().find(|entry| entry.is_router()) {
        return Err(nested.refuse("a Router in a Router, which this version does not support"));
    }
    Ok(Some(route))
}

fn no_router(task: Option<&str>) -> LoadError {
    let task = task.unwrap_or_default();
    LoadError::Config { key: "model.route", message: format!("is {task:?}, but the model has no Router; leave it out") }
}

/// Whether the model has a Router that knows a way for `task`.
pub fn has_route(folder: &Path, task: &str) -> Result<bool, LoadError> {
    for entry in listed(folder)?.into_iter().flatten().filter(ModuleEntry::is_router) {
        if !Router::read(folder, &entry)?.knows(task) {
            return Ok(false);
        }
    }
    Ok(listed(folder)?.into_iter().flatten().any(|entry| entry.is_router()))
}

/// Where a model's parts are, relative to its folder, for any route.
#[derive(Debug)]
pub struct ModulePaths {
    /// One, or with a Router one a route.
    pub transformers: Vec<String>,
    pub modules: Vec<ModulePath>,
}

#[derive(Debug)]
pub struct ModulePath {
    pub path: String,
    /// Whether it has weights of its own.
    pub has_weights: bool,
}

impl ModulePaths {
    /// As modules.json and a Router's file say; without them, all is in the folder itself.
    pub fn read(folder: &Path) -> Result<ModulePaths, LoadError> {
        let mut entries: Vec<ModuleEntry> = Vec::new();
        for entry in listed(folder)?.unwrap_or_default() {
            if entry.is_router() {
                let router = Router::read(folder, &entry)?;
                for name in router.names() {
                    entries.extend(router.modules(&name)?);
                }
            } else {
                entries.push(entry);
            }
        }
        let (transformers, modules): (Vec<&ModuleEntry>, Vec<&ModuleEntry>) =
            entries.iter().partition(|entry| entry.class == Some(ModuleClass::Transformer));
        let mut transformers: Vec<String> = transformers.iter().map(|entry| entry.path.clone()).collect();
        if transformers.is_empty() {
            // What is no transformer is refused when the model is read, with better words than that a file is missing.
            transformers.push(modules.first().map(|entry| entry.path.clone()).unwrap_or_default());
        }
        let modules = modules.into_iter().filter(|entry| !entry.path.is_empty());
        let modules = modules.map(|entry| ModulePath {
            path: entry.path.clone(),
            has_weights: entry.class.is_some_and(ModuleClass::has_weights),
        });
        // A module that several routes share is listed with each.
        let mut places = ModulePaths { transformers, modules: modules.collect() };
        places.transformers.sort_unstable();
        places.transformers.dedup();
        places.modules.sort_by(|a, b| a.path.cmp(&b.path));
        places.modules.dedup_by(|a, b| a.path == b.path);
        Ok(places)
    }
}

/// Files that a Router's entry may have, relative to the model's folder; the first that is there counts.
pub fn router_files(entry: &ModuleEntry) -> Option<[String; 2]> {
    entry.is_router().then(|| ["router_config.json", "config.json"].map(|name| beside(&entry.path, name)))
}

/// The entries of modules.json.
pub fn listed(folder: &Path) -> Result<Option<Vec<ModuleEntry>>, LoadError> {
    let path = folder.join("modules.json");
    let list = match read_json(&path)? {
        None => return Ok(None),
        Some(Value::Array(list)) => list,
        Some(other) => return Err(LoadError::model(path, format!("must be a list, found {}", short(&other)))),
    };
    if list.len() > MODULES_MAX {
        return Err(LoadError::model(path, format!("lists {} modules, at most {MODULES_MAX} are taken", list.len())));
    }
    let entry = |(index, entry): (usize, &Value)| {
        let text = |key: &str| entry.get(key).and_then(Value::as_str);
        let Some(kind) = text("type") else {
            return Err(LoadError::model(&path, format!("module {index} has no `type`")));
        };
        ModuleEntry::new(kind, text("path").unwrap_or_default().to_owned(), &path, format!("module {index}"))
    };
    list.iter().enumerate().map(entry).collect::<Result<Vec<_>, _>>().map(Some)
}

/// A name in a folder that may be the model's own.
pub fn beside(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") }
}

/// A Router's configuration.
struct Router {
    file: ConfigFile,
    path: String,
}

impl Router {
    fn read(folder: &Path, entry: &ModuleEntry) -> Result<Router, LoadError> {
        for name in router_files(entry).into_iter().flatten() {
            if let Some(file) = ConfigFile::read(folder.join(name))? {
                return Ok(Router { file, path: entry.path.clone() });
            }
        }
        let path = folder.join(beside(&entry.path, "router_config.json"));
        Err(LoadError::model(path, "is missing; a Router has its routes there"))
    }

    /// The routes by name, in the file's order as far as JSON keeps one.
    fn structure(&self) -> Result<&serde_json::Map<String, Value>, LoadError> {
        match self.file.get("structure") {
            Some(Value::Object(structure)) if !structure.is_empty() && structure.len() <= MODULES_MAX => Ok(structure),
            _ => Err(self
                .file
                .error(format!("`structure` must be an object of 1 to {MODULES_MAX} routes' module lists"))),
        }
    }

    fn names(&self) -> Vec<String> {
        self.structure().map(|structure| structure.keys().cloned().collect()).unwrap_or_default()
    }

    fn parameter(&self, key: &str) -> Option<&Value> {
        self.file.get("parameters").and_then(|parameters| parameters.get(key)).filter(|value| !value.is_null())
    }

    /// The mapped route of a task and a kind of input; either may be anything.
    fn mapped(&self, task: Option<&str>, modality: Option<&str>) -> Option<&str> {
        // The keys are Python's tuples as it prints them: ('query', 'text'), (None, 'text').
        let part = |part: Option<&str>| part.map_or_else(|| "None".into(), |name| format!("'{name}'"));
        let wanted = format!("({},{})", part(task), part(modality));
        let plain = |key: &str| key.replace('"', "'").split_whitespace().collect::<String>();
        let mappings = self.parameter("route_mappings")?.as_object()?;
        mappings.iter().find(|(key, _)| plain(key) == wanted).and_then(|(_, route)| route.as_str())
    }

    /// The route of a text by the rules of sentence-transformers, without its default.
    fn find(&self, task: Option<&str>) -> Option<&str> {
        let mapped = self.mapped(task, Some("text")).or_else(|| self.mapped(task, None));
        let mapped = mapped.or_else(|| self.mapped(None, Some("text"))).or_else(|| self.mapped(None, None));
        mapped.or_else(|| {
            let structure = self.structure().ok()?;
            let named = |name: &str| structure.get_key_value(name).map(|(name, _)| name.as_str());
            task.and_then(named).or_else(|| named("text"))
        })
    }

    fn knows(&self, task: &str) -> bool {
        self.find(Some(task)).is_some()
    }

    fn resolve(&self, task: Option<&str>) -> Result<&str, LoadError> {
        if let Some(route) = self.find(task) {
            return Ok(route);
        }
        let names = self.names().join(", ");
        if let Some(task) = task {
            let message = format!("is {task:?}, but the routes of {} are {names}", self.file.path.display());
            return Err(LoadError::Config { key: "model.route", message });
        }
        match self.parameter("default_route") {
            Some(Value::String(route)) => Ok(route),
            Some(other) => Err(self
                .file
                .error(format!("`parameters.default_route` must be a route's name, found {}", short(other)))),
            // sentence-transformers takes the first route, but JSON here keeps no order, and a guess would be a wrong vector.
            None => match self.structure()?.keys().next() {
                Some(only) if self.structure()?.len() == 1 => Ok(only),
                _ => {
                    let message =
                        format!("is missing: {} has the routes {names} and no default", self.file.path.display());
                    Err(LoadError::Config { key: "model.route", message })
                }
            },
        }
    }

    fn modules(&self, route: &str) -> Result<Vec<ModuleEntry>, LoadError> {
        let expected = || self.file.error(format!("`structure.{route}` must be a list of modules that `types` names"));
        let list = self.structure()?.get(route);
        let list = list.ok_or_else(|| {
            let names = self.names().join(", ");
            self.file.error(format!("names the route {route:?}, but `structure` has {names}"))
        })?;
        let list = list.as_array().filter(|list| !list.is_empty() && list.len() <= MODULES_MAX).ok_or_else(expected)?;
        let entry = |id: &Value| {
            let id = id.as_str().ok_or_else(expected)?;
            let kind = self.file.get("types").and_then(|types| types.get(id)).and_then(Value::as_str);
            ModuleEntry::new(
                kind.ok_or_else(expected)?,
                beside(&self.path, id),
                &self.file.path,
                format!("module {id}"),
            )
        };
        list.iter().map(entry).collect()
    }
}
