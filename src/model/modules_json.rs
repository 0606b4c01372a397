//! modules.json in, the modules that a text goes through out: in their order, each with its class and folder.
//!
//! The types of modules have two generations of names, and both end in the class. A Router (formerly Asym) is replaced by the
//! modules of one of its routes, which `model.route` selects as the task selects it in sentence-transformers. A path that leaves
//! the model's folder is refused.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::LoadError;
use super::config_file::{ConfigFile, read_json, shorten};
use super::files::stays_inside;
use super::module_classes::ModuleClass;

/// A module as modules.json or a Router lists it.
#[derive(Debug, Clone)]
pub(crate) struct ModuleEntry {
    /// Its class; `None` if it is not supported.
    pub class: Option<ModuleClass>,
    /// Its type as the file has it.
    pub module_type: String,
    /// Its folder, relative to the model's folder; empty if it is the model's folder.
    pub path: String,
    /// The file that lists it, for errors.
    pub listed_in: PathBuf,
    /// Its position in that file, for errors, such as `module 2`.
    pub position: String,
}

impl ModuleEntry {
    fn new(module_type: &str, path: String, listed_in: &Path, position: String) -> Result<ModuleEntry, LoadError> {
        if !path.is_empty() && !stays_inside(&path) {
            return Err(LoadError::model(
                listed_in,
                format!("{position}: path {path:?} leaves the folder; expected a path inside it"),
            ));
        }
        let (class, module_type) = (ModuleClass::of(module_type), module_type.to_owned());
        Ok(ModuleEntry { class, module_type, path, listed_in: listed_in.to_owned(), position })
    }

    /// Refuses the module: `PATH/modules.json: module 2: PROBLEM "TYPE"; expected EXPECTED`.
    pub(crate) fn refuse(&self, problem: &str, expected: impl std::fmt::Display) -> LoadError {
        let message = format!("{}: {problem} {:?}; expected {expected}", self.position, self.module_type);
        LoadError::model(&self.listed_in, message)
    }

    fn is_router(&self) -> bool {
        self.class == Some(ModuleClass::Router)
    }
}

/// The modules of one route, in the order in which a text goes through them.
#[derive(Debug)]
pub(crate) struct RoutedModules {
    /// The modules, without a Router.
    pub entries: Vec<ModuleEntry>,
    /// Whether a Router selected some of them.
    pub has_router: bool,
}

/// Maximum number of modules, and of routes of a Router; no known model comes near it.
const MODULES_MAX: usize = 256;

/// The modules on the route for `task`; `None` for a folder without modules.json, which is a plain Hugging Face model.
///
/// # Errors
/// If the files are broken, or have no such route, or if a Router is inside a Router.
pub(crate) fn route(folder: &Path, task: Option<&str>) -> Result<Option<RoutedModules>, LoadError> {
    let Some(entries) = list(folder)? else {
        return match task {
            Some(_) => Err(no_router(task)),
            None => Ok(None),
        };
    };
    let mut route = RoutedModules { entries: Vec::new(), has_router: false };
    for entry in entries {
        if entry.is_router() {
            let router = Router::read(folder, &entry)?;
            let name = router.resolve(task)?;
            route.entries.extend(router.modules(name)?);
            route.has_router = true;
        } else {
            route.entries.push(entry);
        }
    }
    if task.is_some() && !route.has_router {
        return Err(no_router(task));
    }
    if let Some(nested) = route.entries.iter().find(|entry| entry.is_router()) {
        return Err(nested.refuse("nested class", "no Router inside a Router"));
    }
    Ok(Some(route))
}

fn no_router(task: Option<&str>) -> LoadError {
    let task = task.unwrap_or_default();
    LoadError::Config {
        key: "model.route",
        message: format!("found {task:?}, but the model has no Router (leave it out)"),
    }
}

/// Whether the model has a Router, and all its Routers have a route for `task`.
///
/// # Errors
/// If the files are broken.
pub(crate) fn has_route(folder: &Path, task: &str) -> Result<bool, LoadError> {
    for entry in list(folder)?.into_iter().flatten().filter(ModuleEntry::is_router) {
        if !Router::read(folder, &entry)?.knows(task) {
            return Ok(false);
        }
    }
    Ok(list(folder)?.into_iter().flatten().any(|entry| entry.is_router()))
}

/// The folders of a model's modules, relative to the model's folder, for all routes together.
#[derive(Debug)]
pub(crate) struct ModulePaths {
    /// The Transformer's folder; with a Router, that of each route.
    pub transformers: Vec<String>,
    /// The folders of all other modules that have one of their own.
    pub modules: Vec<ModulePath>,
}

/// The folder of a module.
#[derive(Debug)]
pub(crate) struct ModulePath {
    /// The folder, relative to the model's folder.
    pub path: String,
    /// Whether the module has weights.
    pub has_weights: bool,
}

impl ModulePaths {
    /// Reads modules.json and the files of Routers. Without modules.json, everything is in the model's folder itself.
    ///
    /// # Errors
    /// If the files are broken.
    pub(crate) fn read(folder: &Path) -> Result<ModulePaths, LoadError> {
        let mut entries: Vec<ModuleEntry> = Vec::new();
        for entry in list(folder)?.unwrap_or_default() {
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
            // Reading the model refuses a first module of another class, with a better message than that its files are missing.
            transformers.push(modules.first().map(|entry| entry.path.clone()).unwrap_or_default());
        }
        let modules = modules.into_iter().filter(|entry| !entry.path.is_empty());
        let modules = modules.map(|entry| ModulePath {
            path: entry.path.clone(),
            has_weights: entry.class.is_some_and(ModuleClass::has_weights),
        });
        // Routes may share a module, which is then listed several times.
        let mut paths = ModulePaths { transformers, modules: modules.collect() };
        paths.transformers.sort_unstable();
        paths.transformers.dedup();
        paths.modules.sort_by(|a, b| a.path.cmp(&b.path));
        paths.modules.dedup_by(|a, b| a.path == b.path);
        Ok(paths)
    }
}

/// The files that may hold a Router's routes, relative to the model's folder; the first that exists counts. `None` for another
/// module.
pub(crate) fn router_files(entry: &ModuleEntry) -> Option<[String; 2]> {
    entry.is_router().then(|| ["router_config.json", "config.json"].map(|name| join(&entry.path, name)))
}

/// The modules that modules.json lists, Routers included; `None` if the file does not exist.
///
/// # Errors
/// If the file is broken, lists too many modules, or has a path that leaves the folder.
pub(crate) fn list(folder: &Path) -> Result<Option<Vec<ModuleEntry>>, LoadError> {
    let path = folder.join("modules.json");
    let values = match read_json(&path)? {
        None => return Ok(None),
        Some(Value::Array(values)) => values,
        Some(other) => {
            return Err(LoadError::model(path, format!("found {}; expected a list of modules", shorten(&other))));
        }
    };
    if values.len() > MODULES_MAX {
        let message = format!("found {} modules; expected at most {MODULES_MAX}", values.len());
        return Err(LoadError::model(path, message));
    }
    let entry = |(index, entry): (usize, &Value)| {
        let text = |key: &str| entry.get(key).and_then(Value::as_str);
        let Some(module_type) = text("type") else {
            return Err(LoadError::model(
                &path,
                format!("module {index}: \"type\": missing; expected the class of the module"),
            ));
        };
        ModuleEntry::new(module_type, text("path").unwrap_or_default().to_owned(), &path, format!("module {index}"))
    };
    values.iter().enumerate().map(entry).collect::<Result<Vec<_>, _>>().map(Some)
}

/// The path of a file in a folder, relative to the model's folder, where an empty `path` is the model's folder itself.
pub(crate) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") }
}

/// What `structure` of a Router's configuration should be.
fn routes() -> String {
    format!("an object of 1 to {MODULES_MAX} routes, each a list of modules")
}

/// A Router's configuration.
struct Router {
    file: ConfigFile,
    /// The Router's folder, relative to the model's folder.
    path: String,
}

impl Router {
    fn read(folder: &Path, entry: &ModuleEntry) -> Result<Router, LoadError> {
        for name in router_files(entry).into_iter().flatten() {
            if let Some(file) = ConfigFile::read(folder.join(name))? {
                return Ok(Router { file, path: entry.path.clone() });
            }
        }
        let path = folder.join(join(&entry.path, "router_config.json"));
        Err(LoadError::model(path, "missing; expected the routes of the Router"))
    }

    /// The routes by name, sorted by name, since the JSON reader does not keep the file's order.
    fn structure(&self) -> Result<&serde_json::Map<String, Value>, LoadError> {
        match self.file.get("structure") {
            Some(Value::Object(structure)) if !structure.is_empty() && structure.len() <= MODULES_MAX => Ok(structure),
            Some(other) => Err(self.file.unexpected("structure", other, routes())),
            None => Err(self.file.missing("structure", routes())),
        }
    }

    /// The names of the routes.
    fn names(&self) -> Vec<String> {
        self.structure().map(|structure| structure.keys().cloned().collect()).unwrap_or_default()
    }

    /// A value of `parameters`.
    fn parameter(&self, key: &str) -> Option<&Value> {
        self.file.get("parameters").and_then(|parameters| parameters.get(key)).filter(|value| !value.is_null())
    }

    /// The route that `route_mappings` has for a task and a modality. `None` stands for any.
    fn mapped(&self, task: Option<&str>, modality: Option<&str>) -> Option<&str> {
        // The keys are tuples as Python prints them: ('query', 'text'), (None, 'text').
        let part = |part: Option<&str>| part.map_or_else(|| "None".into(), |name| format!("'{name}'"));
        let wanted = format!("({},{})", part(task), part(modality));
        let plain = |key: &str| key.replace('"', "'").split_whitespace().collect::<String>();
        let mappings = self.parameter("route_mappings")?.as_object()?;
        mappings.iter().find(|(key, _)| plain(key) == wanted).and_then(|(_, route)| route.as_str())
    }

    /// The route of a text by the rules of sentence-transformers, without the default route.
    fn find(&self, task: Option<&str>) -> Option<&str> {
        let mapped = self.mapped(task, Some("text")).or_else(|| self.mapped(task, None));
        let mapped = mapped.or_else(|| self.mapped(None, Some("text"))).or_else(|| self.mapped(None, None));
        mapped.or_else(|| {
            let structure = self.structure().ok()?;
            let named = |name: &str| structure.get_key_value(name).map(|(name, _)| name.as_str());
            task.and_then(named).or_else(|| named("text"))
        })
    }

    /// Whether it has a route for `task`.
    fn knows(&self, task: &str) -> bool {
        self.find(Some(task)).is_some()
    }

    /// The route for `task`, or the default route.
    fn resolve(&self, task: Option<&str>) -> Result<&str, LoadError> {
        if let Some(route) = self.find(task) {
            return Ok(route);
        }
        let names = self.names().join(", ");
        if let Some(task) = task {
            let message = format!("unknown route {task:?}; expected one of {names} (of {})", self.file.path.display());
            return Err(LoadError::Config { key: "model.route", message });
        }
        match self.parameter("default_route") {
            Some(Value::String(route)) => Ok(route),
            Some(other) => Err(self.file.unexpected("parameters.default_route", other, "the name of a route")),
            // sentence-transformers takes the first route. The JSON reader does not keep the order, and guessing a route could
            // give wrong vectors.
            None => match self.structure()?.keys().next() {
                Some(only) if self.structure()?.len() == 1 => Ok(only),
                _ => {
                    let path = self.file.path.display();
                    let message = format!("missing; expected one of {names}, since {path} has no default route");
                    Err(LoadError::Config { key: "model.route", message })
                }
            },
        }
    }

    /// The modules on a route.
    fn modules(&self, route: &str) -> Result<Vec<ModuleEntry>, LoadError> {
        let value = self.structure()?.get(route);
        let value = value.ok_or_else(|| {
            let names = self.names().join(", ");
            self.file.error(format!("unknown route {route:?}; expected one of {names}, the keys of \"structure\""))
        })?;
        let invalid = || {
            let expected = format!("a list of 1 to {MODULES_MAX} modules, each with its class in \"types\"");
            self.file.unexpected(&format!("structure.{route}"), value, expected)
        };
        let list = value.as_array().filter(|list| !list.is_empty() && list.len() <= MODULES_MAX).ok_or_else(invalid)?;
        let entry = |id: &Value| {
            let id = id.as_str().ok_or_else(invalid)?;
            let module_type = self.file.get("types").and_then(|types| types.get(id)).and_then(Value::as_str);
            ModuleEntry::new(
                module_type.ok_or_else(invalid)?,
                join(&self.path, id),
                &self.file.path,
                format!("module {id}"),
            )
        };
        list.iter().map(entry).collect()
    }
}
