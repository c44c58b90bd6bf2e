//! Regular expressions as Prometheus means them: in the syntax of Go's `regexp` (RE2), where `\d` is ASCII, `[[]` is a class, `a{` is
//! no repetition, and `x**` is an error.
//!
//! An expression is rewritten for the `regex` crate, which matches alike (both are leftmost-first). What Go would refuse is refused
//! with Go's message (`regexp/syntax/parse.go`).

use std::iter::Peekable;
use std::str::Chars;

use regex::Regex;

/// The most that a repetition may ask for (`regexp/syntax`: "invalid repeat count").
const MOST: u32 = 1000;

/// An expression as Prometheus compiles those of relabelling: it matches whole values, and `.` matches line ends.
///
/// # Errors
/// What is wrong with the expression, as Go says it.
pub fn compile(pattern: &str) -> Result<Regex, String> {
    let rewritten = rewrite(pattern)?;
    Regex::new(&format!("^(?s:{rewritten})$")).map_err(|error| error.to_string())
}

/// An expression as Go compiles it: it matches anywhere in a text.
///
/// # Errors
/// See [`compile`].
pub fn compile_within(pattern: &str) -> Result<Regex, String> {
    Regex::new(&rewrite(pattern)?).map_err(|error| error.to_string())
}

/// Whether Go would compile an expression. Costs a twentieth of compiling it.
///
/// # Errors
/// See [`compile`].
pub fn check(pattern: &str) -> Result<(), String> {
    rewrite(pattern).map(drop)
}

/// A reader of one expression.
struct Reader<'a> {
    rest: Peekable<Chars<'a>>,
    /// Where the rest begins, in bytes.
    at: usize,
    whole: &'a str,
    out: String,
    /// How many groups are open.
    open: usize,
    names: Vec<String>,
    /// Whether there is something before that could be repeated.
    repeatable: bool,
    /// Where the repetition that was read last begins, if it came just before.
    repetition: Option<usize>,
}

fn rewrite(pattern: &str) -> Result<String, String> {
    let mut reader = Reader {
        rest: pattern.chars().peekable(),
        at: 0,
        whole: pattern,
        out: String::with_capacity(pattern.len() + 8),
        open: 0,
        names: Vec::new(),
        repeatable: false,
        repetition: None,
    };
    while let Some(letter) = reader.next() {
        reader.read(letter)?;
    }
    if reader.open > 0 {
        return Err(format!("missing closing ): `{pattern}`"));
    }
    Ok(reader.out)
}

fn is_octal(letter: char) -> bool {
    matches!(letter, '0'..='7')
}

/// A letter so that it means itself, in a class or outside.
fn literal(letter: char, out: &mut String) {
    if letter.is_ascii() && !letter.is_ascii_alphanumeric() && !letter.is_ascii_whitespace() && !matches!(letter, '<' | '>' | '_')
    {
        out.push('\\');
    }
    out.push(letter);
}

impl Reader<'_> {
    fn next(&mut self) -> Option<char> {
        let letter = self.rest.next()?;
        self.at += letter.len_utf8();
        Some(letter)
    }

    fn take(&mut self, wanted: char) -> bool {
        let found = self.rest.peek() == Some(&wanted);
        if found {
            self.next();
        }
        found
    }

    /// What is written is something that can be repeated.
    fn atom(&mut self) {
        self.repeatable = true;
        self.repetition = None;
    }

    fn read(&mut self, letter: char) -> Result<(), String> {
        match letter {
            '*' | '+' | '?' => self.repeat(letter.len_utf8(), &letter.to_string()),
            '{' => match self.counts()? {
                Some((length, text)) => self.repeat(length, &text),
                None => {
                    self.out.push_str("\\{");
                    self.atom();
                    Ok(())
                }
            },
            '(' => self.group(),
            ')' => {
                if self.open == 0 {
                    return Err(format!("unexpected ): `{}`", self.whole));
                }
                self.open -= 1;
                self.out.push(')');
                self.atom();
                Ok(())
            }
            '|' => {
                self.out.push('|');
                self.repeatable = false;
                self.repetition = None;
                Ok(())
            }
            '[' => {
                self.class()?;
                self.atom();
                Ok(())
            }
            '\\' => {
                self.escape(false)?;
                self.atom();
                Ok(())
            }
            '.' | '^' | '$' => {
                self.out.push(letter);
                self.atom();
                Ok(())
            }
            other => {
                literal(other, &mut self.out);
                self.atom();
                Ok(())
            }
        }
    }

    /// A repetition whose sign has `length` bytes and was read already.
    fn repeat(&mut self, length: usize, sign: &str) -> Result<(), String> {
        let begin = self.at - length;
        if let Some(before) = self.repetition {
            return Err(format!("invalid nested repetition operator: `{}`", &self.whole[before..self.at]));
        }
        if !self.repeatable {
            return Err(format!("missing argument to repetition operator: `{}`", &self.whole[begin..self.at]));
        }
        self.out.push_str(sign);
        if self.take('?') {
            self.out.push('?');
        }
        self.repetition = Some(begin);
        Ok(())
    }

    /// `n}`, `n,}` or `n,m}` after a brace: how long it is with the brace, and how it is written. Anything else is no repetition.
    fn counts(&mut self) -> Result<Option<(usize, String)>, String> {
        let rest = &self.whole[self.at..];
        let Some((inside, _)) = rest.split_once('}') else { return Ok(None) };
        let (least, most) = match inside.split_once(',') {
            None => (inside, Some(inside)),
            Some((least, "")) => (least, None),
            Some((least, most)) => (least, Some(most)),
        };
        let is_number = |text: &str| {
            !text.is_empty() && text.chars().all(|digit| digit.is_ascii_digit()) && (text == "0" || !text.starts_with('0'))
        };
        if !is_number(least) || !most.is_none_or(is_number) {
            return Ok(None);
        }
        let number = |text: &str| text.parse::<u32>().ok().filter(|number| *number <= MOST);
        let (low, high) = (number(least), most.map(number));
        if low.is_none() || high == Some(None) || high.flatten().is_some_and(|high| Some(high) < low) {
            return Err(format!("invalid repeat count: `{{{inside}}}`"));
        }
        for _ in 0..=inside.chars().count() {
            self.next();
        }
        Ok(Some((inside.len() + 2, format!("{{{inside}}}"))))
    }

    fn group(&mut self) -> Result<(), String> {
        let begin = self.at - 1;
        self.out.push('(');
        self.open += 1;
        self.repeatable = false;
        self.repetition = None;
        if !self.take('?') {
            return Ok(());
        }
        self.out.push('?');
        let named = if self.rest.peek() == Some(&'P') { self.next() == Some('P') && self.take('<') } else { self.take('<') };
        if named {
            let name: String = std::iter::from_fn(|| self.next().filter(|letter| *letter != '>')).collect();
            let valid = !name.is_empty() && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
            if !valid || !self.whole[..self.at].ends_with('>') {
                return Err(format!("invalid named capture: `{}`", &self.whole[begin..self.at]));
            }
            if self.names.contains(&name) {
                return Err(format!("duplicate capture group name: `{name}`"));
            }
            // Names may begin with a digit in Go.
            self.out.push_str(&format!("P<_{name}>"));
            self.names.push(name);
            return Ok(());
        }
        self.flags(begin)
    }

    /// The flags of a group, `(?i-s:` or `(?i-s)`, without the `(?`. Go lets each flag be repeated, and the last one decides
    /// (`parsePerlFlags` of `regexp/syntax/parse.go`); the crate does not.
    fn flags(&mut self, begin: usize) -> Result<(), String> {
        let (mut on, mut off) = (Vec::new(), Vec::new());
        let (mut negated, mut seen) = (false, false);
        loop {
            match self.next() {
                Some(flag @ ('i' | 'm' | 's' | 'U')) => {
                    seen = true;
                    let (of, other) = if negated { (&mut off, &mut on) } else { (&mut on, &mut off) };
                    other.retain(|written| *written != flag);
                    if !of.contains(&flag) {
                        of.push(flag);
                    }
                }
                Some('-') if !negated => (negated, seen) = (true, false),
                Some(end @ (':' | ')')) if !negated || seen => {
                    if end == ')' {
                        self.open -= 1;
                        if on.is_empty() && off.is_empty() {
                            // A group of no flags changes nothing; the crate refuses it.
                            self.out.truncate(self.out.len() - "(?".len());
                            return Ok(());
                        }
                    }
                    self.out.extend(on);
                    if !off.is_empty() {
                        self.out.push('-');
                        self.out.extend(off);
                    }
                    self.out.push(end);
                    return Ok(());
                }
                _ => return Err(format!("invalid or unsupported Perl syntax: `{}`", &self.whole[begin..self.at])),
            }
        }
    }

    /// What follows a backslash.
    fn escape(&mut self, in_class: bool) -> Result<(), String> {
        let begin = self.at - 1;
        let Some(letter) = self.next() else { return Err("trailing backslash at end of expression: ``".to_owned()) };
        let sets = [('d', "0-9"), ('w', "0-9A-Za-z_"), ('s', "\\t\\n\\x0c\\r ")];
        if let Some((_, set)) = sets.iter().find(|(name, _)| *name == letter.to_ascii_lowercase()) {
            let not = if letter.is_ascii_uppercase() { "^" } else { "" };
            self.out.push_str(&format!("[{not}{set}]"));
            return Ok(());
        }
        match letter {
            'a' => self.out.push_str("\\x07"),
            'f' => self.out.push_str("\\x0c"),
            'n' => self.out.push_str("\\n"),
            'r' => self.out.push_str("\\r"),
            't' => self.out.push_str("\\t"),
            'v' => self.out.push_str("\\x0b"),
            'A' | 'z' if !in_class => self.out.push_str(&format!("\\{letter}")),
            'b' if !in_class => self.out.push_str("(?-u:\\b)"),
            // The crate has no such edge of ASCII words; it differs at letters beyond ASCII alone.
            'B' if !in_class => self.out.push_str("\\B"),
            'Q' if !in_class => self.quoted(),
            'x' => self.hexadecimal(begin)?,
            'p' | 'P' => self.class_of_unicode(letter, begin)?,
            '0' => self.octal(0),
            '1'..='7' if self.rest.peek().copied().is_some_and(is_octal) => self.octal(letter as u32 - '0' as u32),
            _ if letter.is_ascii() && !letter.is_ascii_alphanumeric() => literal(letter, &mut self.out),
            _ => return Err(format!("invalid escape sequence: `{}`", &self.whole[begin..self.at])),
        }
        Ok(())
    }

    /// `\Q…\E`: what lies between means itself.
    fn quoted(&mut self) {
        let rest = &self.whole[self.at..];
        let text = rest.split_once("\\E").map_or(rest, |(text, _)| text);
        for letter in text.chars() {
            literal(letter, &mut self.out);
        }
        let ended = rest.len() > text.len();
        for _ in 0..text.chars().count() + if ended { 2 } else { 0 } {
            self.next();
        }
    }

    fn code(&mut self, code: u32, begin: usize) -> Result<(), String> {
        if char::from_u32(code).is_none() {
            return Err(format!("invalid escape sequence: `{}`", &self.whole[begin..self.at]));
        }
        self.out.push_str(&format!("\\x{{{code:x}}}"));
        Ok(())
    }

    fn hexadecimal(&mut self, begin: usize) -> Result<(), String> {
        let braced = self.take('{');
        let mut digits = String::new();
        while let Some(digit) = self.rest.peek().copied().filter(char::is_ascii_hexdigit) {
            if !braced && digits.len() == 2 {
                break;
            }
            digits.push(digit);
            self.next();
        }
        let whole = if braced { self.take('}') && !digits.is_empty() } else { digits.len() == 2 };
        let code = u32::from_str_radix(&digits, 16).ok().filter(|_| whole);
        let code = code.ok_or_else(|| format!("invalid escape sequence: `{}`", &self.whole[begin..self.at]))?;
        self.code(code, begin)
    }

    /// Up to two more digits after the first.
    fn octal(&mut self, first: u32) {
        let mut code = first;
        for _ in 0..2 {
            let Some(digit) = self.rest.peek().copied().filter(|digit| is_octal(*digit)) else { break };
            code = code * 8 + (digit as u32 - '0' as u32);
            self.next();
        }
        self.out.push_str(&format!("\\x{{{code:x}}}"));
    }

    /// `\pN` or `\p{Greek}`.
    fn class_of_unicode(&mut self, letter: char, begin: usize) -> Result<(), String> {
        let name: String = match self.next() {
            Some('{') => std::iter::from_fn(|| self.next().filter(|letter| *letter != '}')).collect(),
            Some(one) => one.to_string(),
            None => String::new(),
        };
        let text = format!("\\{letter}{{{name}}}");
        if name.is_empty() || Regex::new(&text).is_err() {
            return Err(format!("invalid character class range: `{}`", &self.whole[begin..self.at]));
        }
        self.out.push_str(&text);
        Ok(())
    }

    /// A class after its bracket. A bracket that comes first is one of its letters, and so is each opening one.
    fn class(&mut self) -> Result<(), String> {
        let begin = self.at - 1;
        let missing = |whole: &str| format!("missing closing ]: `{}`", &whole[begin..]);
        self.out.push('[');
        if self.take('^') {
            self.out.push('^');
        }
        let mut first = true;
        loop {
            let Some(letter) = self.next() else { return Err(missing(self.whole)) };
            match letter {
                ']' if !first => {
                    self.out.push(']');
                    return Ok(());
                }
                '[' if self.rest.peek() == Some(&':') && self.whole[self.at..].contains(":]") => self.posix()?,
                _ => {
                    let start = self.at - letter.len_utf8();
                    let low = self.letter_of_class(letter)?;
                    let ranged = self.rest.peek() == Some(&'-') && !self.whole[self.at..].starts_with("-]");
                    if ranged && self.whole.len() > self.at + 1 {
                        self.next();
                        let Some(high) = self.next() else { return Err(missing(self.whole)) };
                        self.out.push('-');
                        let high = self.letter_of_class(high)?;
                        if low.is_none() || high.is_none() || high < low {
                            return Err(format!("invalid character class range: `{}`", &self.whole[start..self.at]));
                        }
                    }
                }
            }
            first = false;
        }
    }

    /// One letter of a class, or a class in it, for which there is no letter.
    fn letter_of_class(&mut self, letter: char) -> Result<Option<char>, String> {
        if letter != '\\' {
            literal(letter, &mut self.out);
            return Ok(Some(letter));
        }
        let from = self.out.len();
        self.escape(true)?;
        let written = &self.out[from..];
        let of_code = written.strip_prefix("\\x{").and_then(|code| code.strip_suffix('}'));
        Ok(match of_code.and_then(|code| u32::from_str_radix(code, 16).ok()).and_then(char::from_u32) {
            Some(letter) => Some(letter),
            None if written.starts_with('[') || written.starts_with("\\p") || written.starts_with("\\P") => None,
            None => match written {
                "\\n" => Some('\n'),
                "\\r" => Some('\r'),
                "\\t" => Some('\t'),
                "\\x07" => Some('\u{7}'),
                "\\x0b" => Some('\u{b}'),
                "\\x0c" => Some('\u{c}'),
                other => other.chars().last(),
            },
        })
    }

    /// `[:alpha:]` or `[:^alpha:]` in a class.
    fn posix(&mut self) -> Result<(), String> {
        const NAMES: [&str; 14] = [
            "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "word",
            "xdigit",
        ];
        let begin = self.at - 1;
        let rest = &self.whole[self.at + 1..];
        let inside = rest.split_once(":]").map_or("", |(inside, _)| inside);
        for _ in 0..inside.chars().count() + 3 {
            self.next();
        }
        if !NAMES.contains(&inside.trim_start_matches('^')) {
            return Err(format!("invalid character class range: `{}`", &self.whole[begin..self.at]));
        }
        self.out.push_str(&format!("[:{inside}:]"));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_go_takes_matches_as_in_go() {
        for (pattern, text, matches) in [
            ("foo{bar", "foo{bar", true),
            ("{x}", "{x}", true),
            ("a{", "a{", true),
            ("a{,2}", "a{,2}", true),
            ("a{2}", "aa", true),
            (r"\Qa.b\E+", "a.bb", true),
            (r"\Qa.b", "axb", false),
            ("[[]", "[", true),
            ("[^[]", "x", true),
            ("[]a]", "]", true),
            ("[a-]", "-", true),
            ("[a&&b]", "&", true),
            ("[a~~b-]", "~", true),
            ("[[:alpha:]_]+", "ab_", true),
            ("[[:^digit:]]", "1", false),
            (r"\d+", "١٢", false),
            (r"\w", "é", false),
            (r"[^\d\s]+", "ab", true),
            (r"\x41\x{42}\103", "ABC", true),
            (r"\pL+", "aé", true),
            (r"\p{Greek}", "α", true),
            (r"a\-b\_c\<", "a-b_c<", true),
            ("(?i)É", "é", true),
            ("(?P<1a>x)", "x", true),
            ("(?<n>x)", "x", true),
            ("a.b", "a\nb", true),
            ("(a|b)*?", "abab", true),
            ("^*", "", true),
            ("a b#c", "a b#c", true),
            ("()|x", "", true),
            ("%-;", "%-;", true),
        ] {
            let compiled = compile(pattern).unwrap_or_else(|why| panic!("{pattern}: {why}"));
            assert_eq!(compiled.is_match(text), matches, "{pattern} {text:?}");
        }
    }

    #[test]
    fn what_go_refuses_is_refused_in_its_words() {
        for (pattern, expected) in [
            ("(", "missing closing ): `(`"),
            (")", "unexpected ): `)`"),
            ("a**", "invalid nested repetition operator: `**`"),
            ("a*{2}", "invalid nested repetition operator: `*{2}`"),
            ("*a", "missing argument to repetition operator: `*`"),
            ("a|*", "missing argument to repetition operator: `*`"),
            ("(+)", "missing argument to repetition operator: `+`"),
            ("a{1001}", "invalid repeat count: `{1001}`"),
            ("a{3,2}", "invalid repeat count: `{3,2}`"),
            ("[a", "missing closing ]: `[a`"),
            ("[b-a]", "invalid character class range: `b-a`"),
            ("[[:nix:]]", "invalid character class range: `[:nix:]`"),
            (r"\p{Nix}", r"invalid character class range: `\p{Nix}`"),
            (r"\8", r"invalid escape sequence: `\8`"),
            (r"\u0041", r"invalid escape sequence: `\u`"),
            (r"\Z", r"invalid escape sequence: `\Z`"),
            ("a\\", "trailing backslash at end of expression: ``"),
            ("(?x)a", "invalid or unsupported Perl syntax: `(?x`"),
            ("(?i-)a", "invalid or unsupported Perl syntax: `(?i-)`"),
            ("(?-i-s)a", "invalid or unsupported Perl syntax: `(?-i-`"),
            ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
            ("(?P<n>a)(?P<n>b)", "duplicate capture group name: `n`"),
        ] {
            assert_eq!(check(pattern), Err(expected.to_owned()), "{pattern}");
        }
    }

    #[test]
    fn a_group_of_no_flags_is_nothing() {
        assert!(compile("(?)a").unwrap().is_match("a") && compile("b(?)a").unwrap().is_match("ba"));
    }

    #[test]
    fn the_last_of_a_flag_that_is_repeated_decides() {
        for (pattern, small, large) in [
            ("(?ii)a", true, true),
            ("(?i-i)a", true, false),
            ("(?i)(?-ii)a", true, false),
            ("(?iis-s:A)", true, true),
            ("(?i-i:A)", false, true),
        ] {
            let compiled = compile(pattern).unwrap();
            assert_eq!((compiled.is_match("a"), compiled.is_match("A")), (small, large), "{pattern}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_taken_compiles(pattern in r"(\(\?[imsU-]{0,3}[:)])?[a-z0-9{}()\[\]|*+?.^$\\:=,&~ -]{0,16}") {
            if check(&pattern).is_ok() {
                proptest::prop_assert!(compile(&pattern).is_ok(), "{}", pattern);
            }
        }

        #[test]
        fn a_quoted_text_matches_itself(text in "[^\\\\]{0,12}") {
            let pattern = format!("\\Q{text}\\E");
            proptest::prop_assert!(compile(&pattern).unwrap().is_match(&text));
        }
    }
}
