//! Words that stand in files, settings and flags: an enum and its words are one list.
//!
//! The macro `words!` makes the enum with all that follows from the list: its values and words in order, the
//! word of a value and the value of a word, and how a file writes it. Such an enum stands where the thing
//! itself lives, and whatever else names the thing uses the same enum.

/// What is written as one word of a closed list.
pub trait Word: Sized + 'static {
    /// The words, in the order in which they are listed.
    const WORDS: &'static [&'static str];

    /// The value of a word.
    fn of_word(word: &str) -> Option<Self>;
}

/// Words in a sentence: "a, b and c".
pub fn listed(words: &[&str]) -> String {
    joined(words, "and")
}

/// Words in a sentence, with a conjunction before the last: "a, b or c".
pub fn joined(words: &[&str], conjunction: &str) -> String {
    match words {
        [] => String::new(),
        [one] => (*one).into(),
        [first @ .., last] => format!("{} {conjunction} {last}", first.join(", ")),
    }
}

/// An enum of words, each beside its value. With `or Variant(Other)` the words of another such enum are
/// words of this one too, listed behind its own.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name { $($(#[$variant_doc])* #[serde(rename = $word)] $variant),+ }

        impl $name {
            /// Every value, in order.
            pub const ALL: [Self; [$($word),+].len()] = [$(Self::$variant),+];

            /// The word for it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        $crate::words::words!(@written $name, &[$($word),+], |word| {
            Self::ALL.into_iter().find(|value| value.as_str() == word)
        });
    };
    (
        $(#[$doc:meta])*
        $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)? }
        or $(#[$other_doc:meta])* $other:ident($of:ident): $($same:ident),+
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $word)] $variant,)+
            $(#[$other_doc])* #[serde(untagged)] $other($of),
        }

        impl $name {
            /// The word for it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ Self::$other(other) => other.as_str() }
            }
        }

        $crate::words::words!(@written $name, &[$($word,)+ $($of::$same.as_str()),+], |word| match word {
            $($word => Some(Self::$variant),)+
            _ => <$of as $crate::words::Word>::of_word(word).map(Self::$other),
        });
    };
    (@written $name:ident, $words:expr, |$word:ident| $find:expr) => {
        impl $crate::words::Word for $name {
            const WORDS: &'static [&'static str] = $words;

            fn of_word($word: &str) -> Option<Self> {
                $find
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}
pub(crate) use words;

/// How a text is read as a word of such a list, and the error for any other.
macro_rules! parsed {
    ($name:ty, $error:ty, |$text:ident| $refused:expr) => {
        impl std::str::FromStr for $name {
            type Err = $error;

            fn from_str($text: &str) -> Result<Self, $error> {
                <Self as $crate::words::Word>::of_word($text).ok_or_else(|| $refused)
            }
        }
    };
}
pub(crate) use parsed;
