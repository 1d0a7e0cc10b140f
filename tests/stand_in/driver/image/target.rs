//! What code is made for, and the cards that it runs on.

/// The cards that code runs on, beside the one that it was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Later ones: `sm_90`.
    Later,
    /// Later ones of the same major compute capability, for PTX too: `sm_100f`.
    Family,
    /// None: `sm_90a`.
    Alone,
}

/// What code is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// The compute capability.
    pub version: (u32, u32),
    /// The other cards.
    pub scope: Scope,
}

impl Target {
    /// That of a number such as 90.
    pub fn of(number: u32, scope: Scope) -> Target {
        Target { version: (number / 10, number % 10), scope }
    }

    /// That of a name such as `sm_90a`.
    pub fn named(name: &str) -> Option<Target> {
        let number = name.strip_prefix("sm_")?;
        let (digits, scope) = match number.strip_suffix('a') {
            Some(digits) => (digits, Scope::Alone),
            None => match number.strip_suffix('f') {
                Some(digits) => (digits, Scope::Family),
                None => (number, Scope::Later),
            },
        };
        let is_number = (2..=4).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| digits.parse().ok().map(|number| Target::of(number, scope)))?
    }

    /// Its name behind `sm_` or `compute_`.
    pub fn name(self, prefix: &str) -> String {
        let suffix = match self.scope {
            Scope::Later => "",
            Scope::Family => "f",
            Scope::Alone => "a",
        };
        format!("{prefix}{}{}{suffix}", self.version.0, self.version.1)
    }

    /// Whether a card of this compute capability runs machine code for it.
    pub fn machine_code_runs_on(self, card: (u32, u32)) -> bool {
        let same_major = self.version.0 == card.0 && self.version.1 <= card.1;
        same_major && (self.scope != Scope::Alone || self.version == card)
    }

    /// Whether the driver compiles PTX for it for a card of this compute capability.
    pub fn ptx_runs_on(self, card: (u32, u32)) -> bool {
        match self.scope {
            Scope::Later => self.version <= card,
            Scope::Family | Scope::Alone => self.machine_code_runs_on(card),
        }
    }
}
