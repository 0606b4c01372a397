//! The names that an enum has in the pipeline file, written once: `ALL`, `as_str`, `Display` and `FromStr` come from one list.

/// Implements `ALL`, `as_str`, `Display` and `FromStr` for an enum from one list of its variants and their names. `$what` is
/// what a value is called in the error of `FromStr`, such as `unknown backend "tork"; expected one of torch, hash`.
macro_rules! enum_names {
    ($type:ident, $what:literal, $($variant:ident = $name:literal),+) => {
        impl $type {
            /// Every variant, in the order of the list.
            pub const ALL: [$type; [$($name),+].len()] = [$($type::$variant),+];

            /// The variant's name in the pipeline file.
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
                    _ => Err(format!("unknown {} {name:?}; expected one of {}", $what, [$($name),+].join(", "))),
                }
            }
        }
    };
}

pub(crate) use enum_names;
