//! The version of the rows' format, and the check that every reader makes first. docs/compatibility.md says what it covers.

/// The version that this build writes, and the last that it reads. It rises when a change would mislead an older reader.
pub(crate) const FORMAT_VERSION: u32 = 1;

/// The key in the schema's metadata.
pub(crate) const FORMAT_VERSION_KEY: &str = "embedmill.format_version";

/// Accepts the schema metadata of every version up to [`FORMAT_VERSION`], and of files that embedmill did not write.
/// `value_of` gives the value of a key of that metadata.
///
/// # Errors
/// If the version is later, or not a number.
pub(crate) fn check_version<'a>(value_of: impl Fn(&str) -> Option<&'a str>) -> Result<(), String> {
    let Some(found) = value_of(FORMAT_VERSION_KEY) else { return Ok(()) };
    match found.parse::<u32>() {
        Ok(1..=FORMAT_VERSION) => Ok(()),
        Ok(later) if later > FORMAT_VERSION => {
            let writer = value_of("embedmill.version").unwrap_or("unknown");
            Err(format!(
                "{FORMAT_VERSION_KEY}: found {found:?}; expected at most {FORMAT_VERSION} (embedmill {writer} wrote it: read it \
                 with that version or a later one)"
            ))
        }
        _ => Err(format!("{FORMAT_VERSION_KEY}: found {found:?}; expected a version from 1 to {FORMAT_VERSION}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_version_is_refused_in_one_sentence() {
        let check = |pairs: &[(&str, &str)]| {
            check_version(|wanted| pairs.iter().find(|(key, _)| *key == wanted).map(|(_, value)| *value))
        };
        assert_eq!(check(&[]), Ok(()), "a file of another program");
        assert_eq!(check(&[(FORMAT_VERSION_KEY, &FORMAT_VERSION.to_string())]), Ok(()));
        let later = check(&[(FORMAT_VERSION_KEY, "2"), ("embedmill.version", "3.1.4")]);
        let expected = "embedmill.format_version: found \"2\"; expected at most 1 (embedmill 3.1.4 wrote it: read it with that version \
                        or a later one)";
        assert_eq!(later, Err(expected.into()));
        assert!(check(&[(FORMAT_VERSION_KEY, "0")]).is_err());
        assert!(check(&[(FORMAT_VERSION_KEY, "one")]).is_err());
    }
}
