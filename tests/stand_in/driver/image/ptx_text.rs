//! PTX as text: its words and signs.

/// A word or a sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token<'a> {
    /// Letters, digits, and what joins them in PTX: `ld.param.u64`, `.maxntid`, `%rd1`, `9.0`, `@%p1`.
    Word(&'a str),
    /// Anything else that is not space.
    Sign(u8),
    /// Text between quotation marks.
    Quoted,
}

/// What is left of a text. Comments are passed over.
#[derive(Debug, Clone, Copy)]
pub struct Text<'a> {
    rest: &'a str,
}

fn is_in_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '_' | '$' | '%' | '.' | '@')
}

impl<'a> Text<'a> {
    /// The whole of it.
    pub fn new(text: &'a str) -> Text<'a> {
        Text { rest: text }
    }

    /// The next token; `None` at the end.
    pub fn next(&mut self) -> Option<Token<'a>> {
        loop {
            self.rest = self.rest.trim_start();
            if self.rest.starts_with("//") {
                self.pass_line();
            } else if let Some(comment) = self.rest.strip_prefix("/*") {
                self.rest = comment.split_once("*/").map_or("", |(_, behind)| behind);
            } else {
                break;
            }
        }
        let length = self.rest.find(|character| !is_in_word(character)).unwrap_or(self.rest.len());
        let (word, behind) = self.rest.split_at_checked(length)?;
        if length > 0 {
            self.rest = behind;
            return Some(Token::Word(word));
        }
        let mut characters = self.rest.chars();
        let sign = characters.next()?;
        self.rest = characters.as_str();
        if sign == '"' {
            self.rest = self.rest.split_once('"').map_or("", |(_, behind)| behind);
            return Some(Token::Quoted);
        }
        // No sign of PTX is outside ASCII; what is, is one that nothing waits for.
        Some(Token::Sign(u8::try_from(sign).unwrap_or(b'?')))
    }

    /// The next token, which stays the next.
    pub fn peek(&self) -> Option<Token<'a>> {
        let mut ahead = *self;
        ahead.next()
    }

    /// Passes over a sign if it is next, and says whether it was.
    pub fn pass(&mut self, sign: u8) -> bool {
        let mut ahead = *self;
        let is_next = ahead.next() == Some(Token::Sign(sign));
        if is_next {
            *self = ahead;
        }
        is_next
    }

    /// The next token, where it is a word.
    pub fn word(&mut self) -> Option<&'a str> {
        match self.next()? {
            Token::Word(word) => Some(word),
            _ => None,
        }
    }

    /// The next token, where it is a number.
    pub fn number(&mut self) -> Option<u32> {
        let word = self.word()?.trim_end_matches('U');
        match word.strip_prefix("0x") {
            Some(digits) => u32::from_str_radix(digits, 16).ok(),
            None => word.parse().ok(),
        }
    }

    /// Passes over the rest of the line.
    pub fn pass_line(&mut self) {
        self.rest = self.rest.split_once('\n').map_or("", |(_, behind)| behind);
    }

    /// Passes over what is left up to a `}` that closes a `{` before it, that one too.
    pub fn pass_block(&mut self) -> Option<()> {
        let mut depth = 1_usize;
        while depth > 0 {
            match self.next()? {
                Token::Sign(b'{') => depth += 1,
                Token::Sign(b'}') => depth -= 1,
                _ => {}
            }
        }
        Some(())
    }
}
