//! Collects values from the settings file and the environment and hands them out one by one, remembering where each came
//! from and everything that was wrong, so that one run reports all of it.
//!
//! Knows the table of settings, but not what any of them means.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    time::Duration,
};

use config::{ConfigError, Environment, File, FileFormat, Source, Value, ValueKind};
use secrecy::SecretString;

use super::{
    SettingsFile, duration,
    problem::{Origin, Problem, SettingsError},
    reference::{SETTINGS, Setting},
};

/// Values by key, and the problems found so far.
pub(super) struct Reader {
    values: BTreeMap<String, (Origin, Value)>,
    problems: Vec<Problem>,
}

impl Reader {
    pub(super) fn new(
        file: Option<&SettingsFile>,
        environment: &HashMap<String, String>,
    ) -> Result<Self, SettingsError> {
        let mut reader = Self { values: BTreeMap::new(), problems: Vec::new() };
        if let Some(file) = file {
            reader.read_file(file)?;
        }
        reader.read_environment(environment);
        Ok(reader)
    }

    /// Any text; for a secret setting use [`Reader::secret`].
    pub(super) fn text(&mut self, setting: &'static Setting) -> Option<(Origin, String)> {
        let (origin, value) = self.values.remove(&setting.key())?;
        match value.into_string() {
            Ok(text) => Some((origin, text)),
            Err(_) => {
                self.invalid(setting, origin, "a list or a table was found", setting.kind.expected());
                None
            }
        }
    }

    pub(super) fn secret(&mut self, setting: &'static Setting) -> Option<(Origin, SecretString)> {
        self.text(setting).map(|(origin, text)| (origin, text.into()))
    }

    pub(super) fn flag(&mut self, setting: &'static Setting) -> Option<bool> {
        self.parsed(setting, |text| match text.to_ascii_lowercase().as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err("it is neither"),
        })
    }

    pub(super) fn duration(&mut self, setting: &'static Setting) -> Option<Duration> {
        self.parsed(setting, duration::parse)
    }

    pub(super) fn patience(&mut self, setting: &'static Setting) -> Option<Duration> {
        self.parsed(setting, duration::parse_or_zero)
    }

    pub(super) fn count(&mut self, setting: &'static Setting) -> Option<u32> {
        self.parsed(setting, |text| match text.trim().parse() {
            Ok(0) => Err("it is zero"),
            Ok(number) => Ok(number),
            Err(_) => Err("it is no such number"),
        })
    }

    pub(super) fn identifier(&mut self, setting: &'static Setting) -> Option<String> {
        self.parsed(setting, |text| {
            let mut bytes = text.bytes();
            let begins = bytes.next().is_some_and(|byte| byte.is_ascii_lowercase() || byte == b'_');
            let goes_on = bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
            if begins && goes_on && text.len() <= 63 { Ok(text.to_owned()) } else { Err("it is no such name") }
        })
    }

    /// Names, which may hold commas, as the identity of a function does.
    pub(super) fn names(&mut self, setting: &'static Setting) -> Option<Vec<String>> {
        let (origin, value) = self.values.remove(&setting.key())?;
        let names: Option<Vec<String>> = match value.kind {
            ValueKind::Array(items) => items.into_iter().map(|item| item.into_string().ok()).collect(),
            _ => value.into_string().ok().map(|text| text.split(';').map(str::to_owned).collect()),
        };
        let Some(names) = names else {
            self.invalid(setting, origin, "something else than texts was found", setting.kind.expected());
            return None;
        };
        Some(names.iter().map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect())
    }

    /// Reads a value that is not secret: a wrong one is reported with its text.
    pub(super) fn parsed<T>(
        &mut self,
        setting: &'static Setting,
        parse: impl FnOnce(&str) -> Result<T, &'static str>,
    ) -> Option<T> {
        let (origin, text) = self.text(setting)?;
        match parse(&text) {
            Ok(value) => Some(value),
            Err(why) => {
                self.invalid(setting, origin, format!("found {text:?}, {why}"), setting.kind.expected());
                None
            }
        }
    }

    pub(super) fn invalid(
        &mut self,
        setting: &'static Setting,
        origin: Origin,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) {
        let (found, expected) = (found.into(), expected.into());
        self.problems.push(Problem::Invalid { setting: setting.variable, origin, found, expected });
    }

    pub(super) fn missing(&mut self, setting: &'static Setting, because: &str) {
        self.problems.push(Problem::missing(setting, because));
    }

    /// Whether this setting has been reported already, so that what follows from it is not reported as well.
    pub(super) fn has_problem_with(&self, setting: &Setting) -> bool {
        self.problems.iter().any(|problem| problem.setting() == setting.variable)
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    fn read_file(&mut self, file: &SettingsFile) -> Result<(), SettingsError> {
        let table = File::from_str(&file.text, FileFormat::Toml)
            .collect()
            .map_err(|error| SettingsError::Syntax { path: file.path.clone(), at: position(&error) })?;
        let table: BTreeMap<_, _> = table.into_iter().collect();
        for (key, value) in table {
            let origin = Origin::File(file.path.clone());
            if SETTINGS.iter().any(|setting| setting.is_in_file() && setting.key() == key) {
                self.values.insert(key, (origin, value));
            } else {
                let keys = SETTINGS.iter().filter(|setting| setting.is_in_file()).map(|setting| setting.key());
                let nearest = nearest(&key, keys);
                self.problems.push(Problem::Unknown { name: key, origin, nearest });
            }
        }
        Ok(())
    }

    /// The environment belongs to everybody, so that an unknown name is none of our business, unless it carries our
    /// prefix and is a setting but for a slip.
    fn read_environment(&mut self, environment: &HashMap<String, String>) {
        let ours: HashMap<String, String> = SETTINGS
            .iter()
            .filter_map(|setting| Some((setting.key(), environment.get(setting.variable)?.clone())))
            .collect();
        // An empty variable counts as not set: that is how compose files and service managers leave one out.
        let ours = Environment::default().ignore_empty(true).source(Some(ours.into_iter().collect()));
        for (key, value) in ours.collect().unwrap_or_default() {
            self.values.insert(key, (Origin::Environment, value));
        }
        let mut slips: Vec<_> = environment
            .keys()
            .filter(|name| name.starts_with("TENANTRY_"))
            .filter(|name| SETTINGS.iter().all(|setting| setting.variable != name.as_str()))
            .filter_map(|name| {
                let variables = SETTINGS.iter().map(|setting| setting.variable.to_owned());
                let nearest = variables.min_by_key(|variable| distance(name, variable))?;
                (distance(name, &nearest) <= 2).then(|| (name.clone(), nearest))
            })
            .collect();
        slips.sort();
        self.problems.extend(slips.into_iter().map(|(name, nearest)| Problem::Unknown {
            name,
            origin: Origin::Environment,
            nearest: Some(nearest),
        }));
    }
}

/// The file that `TENANTRY_CONFIG` names, else `tenantry.toml` in the working directory where there is one.
pub(super) fn find_file(environment: &HashMap<String, String>) -> Result<Option<SettingsFile>, SettingsError> {
    let named = environment.get(super::reference::CONFIG.variable).filter(|path| !path.is_empty()).map(PathBuf::from);
    let path = match named {
        Some(path) => path,
        None if Path::new("tenantry.toml").is_file() => PathBuf::from("tenantry.toml"),
        None => return Ok(None),
    };
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(SettingsFile { path, text })),
        Err(source) => Err(SettingsError::File { path, source }),
    }
}

/// The part of the parser's message that says where, and nothing of what stands there.
fn position(error: &ConfigError) -> String {
    let text = match error {
        ConfigError::FileParse { cause, .. } => cause.to_string(),
        _ => return String::new(),
    };
    let numbers_after = |word: &str| -> Option<u32> {
        let rest = text.lines().next()?.split_once(word)?.1;
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    };
    match (numbers_after("line "), numbers_after("column ")) {
        (Some(line), Some(column)) => format!(" at line {line}, column {column}"),
        _ => String::new(),
    }
}

/// The known key that somebody who wrote this one most likely meant.
fn nearest(name: &str, keys: impl Iterator<Item = String>) -> Option<String> {
    let plain = name.to_lowercase().replace(['-', '.', ' '], "_");
    let plain = plain.strip_prefix("tenantry_").unwrap_or(&plain);
    let (found, distance) =
        keys.map(|key| (distance(plain, &key), key)).map(|(d, key)| (key, d)).min_by_key(|(_, d)| *d)?;
    (distance <= 2.max(found.len() / 3)).then_some(found)
}

/// Levenshtein's distance over bytes; names of settings are ASCII.
fn distance(left: &str, right: &str) -> usize {
    let right = right.as_bytes();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, r) in right.iter().enumerate() {
            let substituted = diagonal + usize::from(l != *r);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::{super::reference::Kind, *};

    #[test]
    fn distances() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("same", "same"), 0);
    }

    #[test]
    fn kinds_that_hold_secrets_are_marked_secret() {
        for setting in SETTINGS {
            let holds_secret = matches!(setting.kind, Kind::Url | Kind::Login | Kind::Key | Kind::Keys);
            assert_eq!(setting.secret, holds_secret, "{}", setting.variable);
        }
    }
}
