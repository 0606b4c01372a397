//! Which topics a list means: by name, or by a pattern, which begins with ^ as librdkafka has it.

use regex::Regex;

pub struct TopicNames {
    names: Vec<String>,
    patterns: Vec<Regex>,
}

impl TopicNames {
    /// # Errors
    /// What is wrong with a pattern.
    pub fn new(names: &[String]) -> Result<TopicNames, String> {
        let (patterns, names): (Vec<&String>, Vec<&String>) = names.iter().partition(|name| name.starts_with('^'));
        let pattern = |name: &&String| {
            let wrong = |error| format!("`{name}` begins with ^ and is no regular expression: {error}");
            Regex::new(name).map_err(wrong)
        };
        let patterns = patterns.iter().map(pattern).collect::<Result<_, _>>()?;
        Ok(TopicNames { names: names.into_iter().cloned().collect(), patterns })
    }

    pub fn contains(&self, topic: &str) -> bool {
        self.names.iter().any(|name| name == topic) || self.patterns.iter().any(|pattern| pattern.is_match(topic))
    }

    /// Whether topics may come that are not there yet.
    pub fn has_patterns(&self) -> bool {
        !self.patterns.is_empty()
    }
}
