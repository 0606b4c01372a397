//! One list of names for an enum that users write in the pipeline file: `ALL`, `as_str`, `Display` and `FromStr` from it.

/// OutputKind an enum the names that it has in the pipeline file, in both directions; one list a type.
macro_rules! enum_names {
    ($type:ident, $what:literal, $($variant:ident = $name:literal),+) => {
        impl $type {
            pub const ALL: [$type; [$($name),+].len()] = [$($type::$variant),+];

            pub fn as_str(self) -> &'static str {
                match self { $($type::$variant => $name),+ }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $type {
            type Err = String;

            fn from_str(name: &str) -> Result<Self, String> {
                match name {
                    $($name => Ok($type::$variant),)+
                    _ => Err(format!("`{name}` is no {}; there are {}", $what, [$($name),+].join(", "))),
                }
            }
        }
    };
}

pub(crate) use enum_names;
