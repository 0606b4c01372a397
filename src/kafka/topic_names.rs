//! Matches topics against a list of names and patterns. An entry that begins with ^ is a regular expression, as in
//! librdkafka.

use regex::Regex;

/// Topic names and patterns.
pub(crate) struct TopicNames {
    names: Vec<String>,
    patterns: Vec<Regex>,
}

impl TopicNames {
    /// # Errors
    /// If a pattern is not a regular expression: a message for the user, without the key.
    pub(crate) fn new(names: &[String]) -> Result<TopicNames, String> {
        let (patterns, names): (Vec<&String>, Vec<&String>) = names.iter().partition(|name| name.starts_with('^'));
        let compile = |pattern: &&String| {
            Regex::new(pattern)
                .map_err(|error| format!("invalid pattern {pattern:?}: {error}; expected a regular expression after ^"))
        };
        let patterns = patterns.iter().map(compile).collect::<Result<_, _>>()?;
        Ok(TopicNames { names: names.into_iter().cloned().collect(), patterns })
    }

    /// Whether a name or a pattern matches the topic.
    pub(crate) fn contains(&self, topic: &str) -> bool {
        self.names.iter().any(|name| name == topic) || self.patterns.iter().any(|pattern| pattern.is_match(topic))
    }

    /// Whether topics that do not exist yet may match later.
    pub(crate) fn has_patterns(&self) -> bool {
        !self.patterns.is_empty()
    }
}
