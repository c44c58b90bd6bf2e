//! From text to tokens, as Prometheus does it (`promql/parser/lex.go`): what a letter may be depends on the brackets around it.

use crate::literal::{code_point, quote, quote_letter};
use crate::node::Fault;
use crate::token::{Keyword, Kind, Op, Token, word};

/// All tokens of an expression. The last one is [`Kind::End`] or [`Kind::Fault`].
#[derive(Debug)]
pub(crate) struct Tokens<'a> {
    pub(crate) tokens: Vec<Token<'a>>,
    /// Why there are no more tokens.
    pub(crate) fault: Option<Fault>,
}

/// What is being read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Anything,
    /// After `[`, until the first number.
    Duration,
}

struct Lexer<'a> {
    input: &'a str,
    at: usize,
    start: usize,
    tokens: Vec<Token<'a>>,
    depth: usize,
    in_braces: bool,
    in_brackets: bool,
    got_colon: bool,
    got_duration: bool,
}

/// The tokens of an expression.
pub(crate) fn tokens(input: &str) -> Tokens<'_> {
    let mut lexer = Lexer {
        input,
        at: 0,
        start: 0,
        tokens: Vec::new(),
        depth: 0,
        in_braces: false,
        in_brackets: false,
        got_colon: false,
        got_duration: false,
    };
    let mut state = State::Anything;
    let fault = loop {
        let step = match state {
            State::Duration => lexer.duration_expression(),
            State::Anything if lexer.in_braces => lexer.inside_braces(),
            State::Anything => lexer.anything(),
        };
        match step {
            Ok(Some(next)) => state = next,
            Ok(None) => break None,
            Err(message) => break Some(Fault::new(lexer.start, message)),
        }
    };
    let kind = if fault.is_some() { Kind::Fault } else { Kind::End };
    lexer.tokens.push(Token { kind, start: lexer.start, text: "" });
    Tokens { tokens: lexer.tokens, fault }
}

/// The state that follows, nothing at the end, or why there is none.
type Step = Result<Option<State>, String>;

const GO_ON: Step = Ok(Some(State::Anything));

impl<'a> Lexer<'a> {
    fn peek(&self) -> Option<char> {
        self.input[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let letter = self.peek()?;
        self.at += letter.len_utf8();
        Some(letter)
    }

    fn accept(&mut self, valid: &str) -> bool {
        let found = self.peek().is_some_and(|letter| valid.contains(letter));
        if found {
            self.next();
        }
        found
    }

    fn is(&self, valid: &str) -> bool {
        self.peek().is_some_and(|letter| valid.contains(letter))
    }

    fn skip_while(&mut self, holds: impl Fn(char) -> bool) {
        while self.peek().is_some_and(&holds) {
            self.next();
        }
    }

    fn text(&self) -> &'a str {
        &self.input[self.start..self.at]
    }

    fn emit(&mut self, kind: Kind) {
        self.tokens.push(Token { kind, start: self.start, text: self.text() });
        self.start = self.at;
    }

    fn operator(&mut self, op: Op) -> Step {
        self.emit(Kind::Operator(op));
        GO_ON
    }

    fn one(&mut self, kind: Kind) -> Step {
        self.emit(kind);
        GO_ON
    }

    fn space(&mut self) -> Step {
        self.skip_while(is_space);
        self.start = self.at;
        GO_ON
    }

    fn comment(&mut self) -> Step {
        self.skip_while(|letter| letter != '\n' && letter != '\r');
        self.start = self.at;
        GO_ON
    }

    fn anything(&mut self) -> Step {
        let Some(letter) = self.next() else {
            return match (self.depth, self.in_brackets) {
                (0, false) => Ok(None),
                (0, true) => Err("unclosed left bracket".to_owned()),
                _ => Err("unclosed left parenthesis".to_owned()),
            };
        };
        match letter {
            '#' => self.comment(),
            ',' => self.one(Kind::Comma),
            _ if is_space(letter) => self.space(),
            '*' => self.operator(Op::Mul),
            '/' => self.operator(Op::Div),
            '%' => self.operator(Op::Mod),
            '+' => self.operator(Op::Add),
            '-' => self.operator(Op::Sub),
            '^' => self.operator(Op::Pow),
            '=' => match self.peek() {
                Some('=') => {
                    self.next();
                    self.operator(Op::Equal)
                }
                Some('~') => Err("unexpected character after '=': '~'".to_owned()),
                _ => self.one(Kind::Assign),
            },
            '!' => match self.next() {
                Some('=') => self.operator(Op::NotEqual),
                other => Err(format!("unexpected character after '!': {}", quote_letter(other))),
            },
            '<' if self.accept("=") => self.operator(Op::LessEqual),
            '<' => self.operator(Op::Less),
            '>' if self.accept("=") => self.operator(Op::GreaterEqual),
            '>' => self.operator(Op::Greater),
            '.' if !self.peek().is_some_and(|next| next.is_ascii_digit()) => Err(unexpected(letter)),
            '0'..='9' | '.' => {
                self.at = self.start;
                self.number_or_duration()
            }
            '"' | '\'' => self.string(letter),
            '`' => self.raw_string(),
            _ if is_alpha(letter) || letter == ':' => {
                if self.in_brackets {
                    self.word_in_brackets(letter)
                } else {
                    self.skip_while(|letter| is_alphanumeric(letter) || letter == ':');
                    self.one(word(self.text()))
                }
            }
            '(' => {
                self.depth += 1;
                self.one(Kind::LeftParen)
            }
            ')' => self.right_paren(State::Anything),
            '{' => {
                self.in_braces = true;
                self.one(Kind::LeftBrace)
            }
            '[' => self.left_bracket(),
            ']' => {
                if !self.in_brackets {
                    return Err("unexpected right bracket ']'".to_owned());
                }
                self.in_brackets = false;
                self.one(Kind::RightBracket)
            }
            '@' => self.one(Kind::At),
            _ => Err(unexpected(letter)),
        }
    }

    fn right_paren(&mut self, then: State) -> Step {
        self.emit(Kind::RightParen);
        match self.depth.checked_sub(1) {
            Some(depth) => {
                self.depth = depth;
                Ok(Some(then))
            }
            None => {
                // The parenthesis is not handed on.
                self.tokens.pop();
                Err("unexpected right parenthesis ')'".to_owned())
            }
        }
    }

    fn left_bracket(&mut self) -> Step {
        if self.in_brackets {
            return Err("unexpected left bracket '['".to_owned());
        }
        self.got_colon = false;
        self.emit(Kind::LeftBracket);
        self.skip_while(is_space);
        self.start = self.at;
        self.in_brackets = true;
        Ok(Some(State::Duration))
    }

    fn word_in_brackets(&mut self, letter: char) -> Step {
        match letter {
            ':' if self.got_colon => return Err("unexpected colon ':'".to_owned()),
            ':' => {
                self.got_colon = true;
                return self.one(Kind::Colon);
            }
            's' | 'S' | 'm' | 'M' if self.duration_word() => return GO_ON,
            _ => {}
        }
        Err(format!("unexpected character: {}, expected ':'", quote_letter(Some(letter))))
    }

    /// `step`, `min` or `max`, where a duration is expected.
    fn duration_word(&mut self) -> bool {
        self.skip_while(is_alpha);
        let known = ["step", "min", "max"].iter().any(|known| known.eq_ignore_ascii_case(self.text()));
        if known {
            self.emit(word(self.text()));
        }
        known
    }

    /// What is between `[` and the first number in it.
    fn duration_expression(&mut self) -> Step {
        const SAME: Step = Ok(Some(State::Duration));
        let Some(letter) = self.next() else {
            return Err("unexpected end of input in duration expression".to_owned());
        };
        let operator = match letter {
            '+' => Op::Add,
            '-' => Op::Sub,
            '*' => Op::Mul,
            '/' => Op::Div,
            '%' => Op::Mod,
            '^' => Op::Pow,
            ']' => {
                self.in_brackets = false;
                self.got_colon = false;
                return self.one(Kind::RightBracket);
            }
            ':' => {
                self.emit(Kind::Colon);
                let fault = match (self.got_duration, self.got_colon) {
                    (false, _) => "unexpected colon before duration in duration expression",
                    (true, true) => "unexpected repeated colon in duration expression",
                    (true, false) => {
                        self.got_colon = true;
                        return SAME;
                    }
                };
                self.tokens.pop();
                return Err(fault.to_owned());
            }
            '(' => {
                self.depth += 1;
                self.emit(Kind::LeftParen);
                return SAME;
            }
            ')' => return self.right_paren(State::Duration),
            _ if is_space(letter) => {
                self.skip_while(is_space);
                self.start = self.at;
                return SAME;
            }
            ',' => {
                self.emit(Kind::Comma);
                return SAME;
            }
            's' | 'S' | 'm' | 'M' if self.duration_word() => return SAME,
            '0'..='9' => {
                self.at = self.start;
                self.got_duration = true;
                return self.number_or_duration();
            }
            '.' if self.peek().is_some_and(|next| next.is_ascii_digit()) => {
                self.at = self.start;
                self.got_duration = true;
                return self.number_or_duration();
            }
            _ => return Err(format!("unexpected character in duration expression: {}", quote_letter(Some(letter)))),
        };
        self.emit(Kind::Operator(operator));
        SAME
    }

    fn inside_braces(&mut self) -> Step {
        let Some(letter) = self.next() else {
            return Err("unexpected end of input inside braces".to_owned());
        };
        match letter {
            '#' => self.comment(),
            _ if is_space(letter) => self.space(),
            _ if is_alpha(letter) => {
                self.skip_while(is_alphanumeric);
                self.one(Kind::Identifier)
            }
            ',' => self.one(Kind::Comma),
            '"' | '\'' => self.string(letter),
            '`' => self.raw_string(),
            '=' if self.accept("~") => self.one(Kind::MatchesRegex),
            '=' => self.one(Kind::Assign),
            '!' => match self.next() {
                Some('~') => self.one(Kind::MatchesNotRegex),
                Some('=') => self.operator(Op::NotEqual),
                other => Err(format!("unexpected character after '!' inside braces: {}", quote_letter(other))),
            },
            '{' => Err("unexpected left brace '{'".to_owned()),
            '}' => {
                self.in_braces = false;
                self.one(Kind::RightBrace)
            }
            _ => Err(format!("unexpected character inside braces: {}", quote_letter(Some(letter)))),
        }
    }

    fn string(&mut self, quote: char) -> Step {
        loop {
            match self.next() {
                None | Some('\n') => return Err("unterminated quoted string".to_owned()),
                Some('\u{fffd}') => return Err("invalid UTF-8 rune".to_owned()),
                Some('\\') => self.escape(quote)?,
                Some(letter) if letter == quote => return self.one(Kind::String),
                Some(_) => {}
            }
        }
    }

    fn raw_string(&mut self) -> Step {
        loop {
            match self.next() {
                None => return Err("unterminated raw string".to_owned()),
                Some('\u{fffd}') => return Err("invalid UTF-8 rune".to_owned()),
                Some('`') => return self.one(Kind::String),
                Some(_) => {}
            }
        }
    }

    fn escape(&mut self, quote: char) -> Result<(), String> {
        let unfinished = || "escape sequence not terminated".to_owned();
        let letter = self.next().ok_or_else(unfinished)?;
        let (digits, base, most, first) = match letter {
            'a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '\\' => return Ok(()),
            _ if letter == quote => return Ok(()),
            '0'..='7' => (3, 8, 255, Some(letter)),
            'x' => (2, 16, 255, self.next()),
            'u' => (4, 16, 0x10_ffff, self.next()),
            'U' => (8, 16, 0x10_ffff, self.next()),
            other => return Err(format!("unknown escape sequence {}", code_point(other))),
        };
        let mut value: u32 = 0;
        let mut next = first;
        for place in 0..digits {
            let letter = next.ok_or_else(unfinished)?;
            let digit = letter.to_digit(base);
            let digit = digit.ok_or_else(|| format!("illegal character {} in escape sequence", code_point(letter)))?;
            value = value.wrapping_mul(base).wrapping_add(digit);
            if place + 1 < digits {
                next = self.next();
            }
        }
        if value > most || (0xd800..0xe000).contains(&value) {
            return Err("escape sequence is an invalid Unicode code point".to_owned());
        }
        Ok(())
    }

    fn number_or_duration(&mut self) -> Step {
        if self.number() {
            return self.one(Kind::Number);
        }
        if self.rest_of_duration() {
            return self.one(Kind::Duration);
        }
        Err(format!("bad number or duration syntax: {}", quote(self.text())))
    }

    /// A unit, and more numbers with their units. Which ones and in which order is checked later.
    fn rest_of_duration(&mut self) -> bool {
        if !self.accept("smhdwy") {
            return false;
        }
        self.accept("s");
        while self.accept("0123456789") {
            self.skip_while(|letter| letter.is_ascii_digit());
            if !self.accept("smhdw") {
                return false;
            }
            self.accept("s");
        }
        if self.peek().is_some_and(is_alphanumeric) {
            // The letter is part of what the message quotes.
            self.next();
            return false;
        }
        true
    }

    /// Reads what looks like a number; whether it is one is checked later.
    fn number(&mut self) -> bool {
        let first = self.at;
        let mut digits = "0123456789";
        if self.accept("0") && self.accept("xX") {
            self.accept("_");
            digits = "0123456789abcdefABCDEF";
        }
        let hexadecimal = digits.len() > 10;
        self.accept(".");
        self.accept(digits);
        let (mut dot, mut exponent) = (false, false);
        while self.is(digits) || self.is("._eE") {
            if self.is(".") && dot {
                self.next();
                return false;
            }
            if self.is("eE") && exponent {
                self.next();
                return false;
            }
            if self.accept(".") {
                dot = true;
                if self.accept("_.") || hexadecimal {
                    return false;
                }
            } else if self.accept("eE") {
                exponent = true;
                self.accept("+-");
                if self.accept("._eE") || self.peek().is_none() {
                    return false;
                }
            } else if self.accept("_") {
                if self.accept("._eE") || self.peek().is_none() {
                    return false;
                }
            } else {
                self.skip_while(|letter| digits.contains(letter));
            }
        }
        self.at != first && !self.peek().is_some_and(is_alphanumeric)
    }
}

fn unexpected(letter: char) -> String {
    format!("unexpected character: {}", quote_letter(Some(letter)))
}

fn is_space(letter: char) -> bool {
    matches!(letter, ' ' | '\t' | '\n' | '\r')
}

fn is_alpha(letter: char) -> bool {
    letter == '_' || letter.is_ascii_alphabetic()
}

fn is_alphanumeric(letter: char) -> bool {
    is_alpha(letter) || letter.is_ascii_digit()
}

impl Token<'_> {
    pub(crate) fn is_keyword(&self, wanted: Keyword) -> bool {
        self.kind == Kind::Keyword(wanted)
    }
}
