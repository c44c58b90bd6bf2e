//! Durations of ranges and subqueries, offsets, and the times of `@`.

use super::{AT, Fault, LONGEST, MOST_NESTED, OFFSET, Parser, Result, modifiers};
use crate::node::{Node, Offset};
use crate::token::{Aggregation, Edge, Kind, Op};

/// A duration in brackets or of an offset.
#[derive(Clone, Copy, Debug)]
enum Span {
    Seconds(f64),
    /// `step()`, `min(…)` or `max(…)`: known when the query runs.
    Later,
}

impl Parser<'_, '_> {
    pub(super) fn positive_span(&mut self) -> Result<()> {
        let start = self.token().start;
        match self.span(0)? {
            Span::Seconds(seconds) if seconds <= 0.0 => Err(Fault::new(start, "duration must be greater than 0")),
            Span::Seconds(_) | Span::Later => Ok(()),
        }
    }

    /// A duration, of operators that bind at least so tightly. Prometheus reads calculations, to say that they are not switched on.
    fn span(&mut self, least: u8) -> Result<Span> {
        self.depth += 1;
        let start = self.token().start;
        if self.depth > MOST_NESTED {
            return Err(Fault::new(start, format!("expression is nested more than {MOST_NESTED} levels deep")));
        }
        let left = self.span_operand()?;
        if let Kind::Operator(op) = self.token().kind
            && !op.is_set()
            && !op.is_comparison()
            && op != Op::Atan2
            && op.precedence() >= least
        {
            self.next();
            self.span(if op == Op::Pow { op.precedence() } else { op.precedence() + 1 })?;
            return Err(Fault::new(start, "experimental duration expression is not enabled"));
        }
        self.depth -= 1;
        Ok(left)
    }

    fn span_operand(&mut self) -> Result<Span> {
        let token = self.token();
        match token.kind {
            Kind::Number | Kind::Duration => self.limited(1.0, token.start),
            Kind::Operator(op @ (Op::Add | Op::Sub)) => {
                self.next();
                Ok(match self.span(Op::Pow.precedence())? {
                    Span::Seconds(seconds) if op == Op::Sub => Span::Seconds(-seconds),
                    other => other,
                })
            }
            Kind::Edge(Edge::Step) | Kind::Aggregation(Aggregation { name: "min" | "max", .. }) => self.later(),
            Kind::LeftParen => {
                self.next();
                let inner = self.token().start;
                self.span(0)?;
                self.expect(Kind::RightParen)?;
                Err(Fault::new(inner, "experimental duration expression is not enabled"))
            }
            _ => Err(self.unexpected()),
        }
    }

    /// A number of seconds that is a duration.
    fn limited(&mut self, sign: f64, at: usize) -> Result<Span> {
        let seconds = self.seconds()? * sign;
        if seconds.abs() > LONGEST {
            return Err(Fault::new(at, "duration out of range"));
        }
        Ok(Span::Seconds(seconds))
    }

    /// `step()`, `min(…)`, `max(…)`.
    fn later(&mut self) -> Result<Span> {
        let function = self.next();
        self.expect(Kind::LeftParen)?;
        if function.kind != Kind::Edge(Edge::Step) {
            self.span(0)?;
            self.expect(Kind::Comma)?;
            self.span(0)?;
        }
        self.expect(Kind::RightParen)?;
        Ok(Span::Later)
    }

    pub(super) fn offset(&mut self, of: &mut Node) -> Result<()> {
        self.next();
        let span = self.within(OFFSET, Self::offset_span)?;
        let set = match span {
            Span::Seconds(seconds) if (seconds * 1e9).round() == 0.0 => Offset::Zero,
            Span::Seconds(_) => Offset::Time,
            Span::Later => Offset::Expression,
        };
        let (start, end) = (of.start, self.end());
        let modifiers = modifiers(of).ok_or_else(|| {
            let what = "offset modifier must be preceded by an instant vector selector or range vector selector or a subquery";
            Fault::new(start, what)
        })?;
        if modifiers.offset != Offset::Zero {
            return Err(Fault::new(start, "offset may not be set multiple times"));
        }
        modifiers.offset = set;
        of.end = end;
        Ok(())
    }

    /// What an offset may be: in `a offset -2 ^ 2` it is `-2`.
    fn offset_span(&mut self) -> Result<Span> {
        let first = self.token();
        let sign = match first.kind {
            Kind::Operator(Op::Add) => Some(1.0),
            Kind::Operator(Op::Sub) => Some(-1.0),
            _ => None,
        };
        if sign.is_some() {
            self.next();
        }
        match (self.token().kind, sign) {
            (Kind::Number | Kind::Duration, _) => self.limited(sign.unwrap_or(1.0), first.start),
            (Kind::Edge(Edge::Step) | Kind::Aggregation(Aggregation { name: "min" | "max", .. }), _) => self.later(),
            (Kind::LeftParen, Some(_)) => {
                self.next();
                let span = self.span(0)?;
                self.expect(Kind::RightParen)?;
                match span {
                    // Prometheus' parser gives up here, and says no more.
                    Span::Seconds(_) => Err(Fault::new(first.start, "unexpected error")),
                    Span::Later => Ok(span),
                }
            }
            (Kind::Operator(Op::Add | Op::Sub), Some(sign)) => Ok(match self.span(Op::Mul.precedence())? {
                Span::Seconds(seconds) => Span::Seconds(seconds * sign),
                Span::Later => Span::Later,
            }),
            _ => self.span(0),
        }
    }

    pub(super) fn at_modifier(&mut self, of: &mut Node) -> Result<()> {
        self.next();
        let time = self.within(AT, |parser| {
            let sign = match parser.token().kind {
                Kind::Operator(Op::Add) => Some(1.0),
                Kind::Operator(Op::Sub) => Some(-1.0),
                _ => None,
            };
            if sign.is_some() {
                parser.next();
            }
            match parser.token().kind {
                Kind::Number | Kind::Duration => Ok(Some(parser.seconds()? * sign.unwrap_or(1.0))),
                Kind::Edge(Edge::Start | Edge::End) if sign.is_none() => {
                    parser.next();
                    parser.expect(Kind::LeftParen)?;
                    parser.expect(Kind::RightParen)?;
                    Ok(None)
                }
                _ => Err(parser.unexpected()),
            }
        })?;
        let (start, end) = (of.start, self.end());
        if let Some(time) = time.filter(|time| !time.is_finite() || time.abs() >= i64::MAX as f64) {
            let shown = match time {
                _ if time.is_nan() => "NaN".to_owned(),
                _ if time.is_infinite() => if time > 0.0 { "+Inf" } else { "-Inf" }.to_owned(),
                _ => format!("{time:.6}"),
            };
            return Err(Fault::new(start, format!("timestamp out of bounds for @ modifier: {shown}")));
        }
        let modifiers = modifiers(of).ok_or_else(|| {
            let what = "@ modifier must be preceded by an instant vector selector or range vector selector or a subquery";
            Fault::new(start, what)
        })?;
        if modifiers.time || modifiers.edge {
            return Err(Fault::new(start, "@ <timestamp> may not be set multiple times"));
        }
        *(if time.is_some() { &mut modifiers.time } else { &mut modifiers.edge }) = true;
        of.end = end;
        Ok(())
    }
}
