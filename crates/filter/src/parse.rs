//! Tokens into a tree, by recursive descent. Precedence is Java's: OR, AND, then `=`, `<>` and IS, then the other comparisons,
//! then signs and NOT. So `NOT a = b` compares `NOT a` with `b`, as in Java.

use crate::like::Like;
use crate::token::{Keyword, Kind, Lexer, SyntaxError, Token, shown};
use crate::tree::{Comparison, Expression, Search};
use crate::{DEPTH_MAX, EXPRESSION_BYTES_MAX};

/// Reads an expression whose result is TRUE, FALSE or NULL.
pub fn parse(text: &str) -> Result<Expression, SyntaxError> {
    let mut lexer = Lexer::new(text);
    if text.len() > EXPRESSION_BYTES_MAX {
        let length = text.len();
        return Err(lexer.error(
            0,
            format!("the expression has {length} bytes, {EXPRESSION_BYTES_MAX} are the most"),
        ));
    }
    let token = lexer.next()?;
    let mut parser = Parser {
        text,
        lexer,
        token,
        depth: 0,
    };
    let whole = parser.or()?;
    if parser.token.kind != Kind::End {
        return Err(parser.expected("AND, OR, a comparison or the end"));
    }
    Ok(parser.condition(whole)?.tree)
}

/// A tree, where it begins, and how high it is.
struct Node {
    tree: Expression,
    start: usize,
    height: usize,
}

struct Parser<'a> {
    text: &'a str,
    lexer: Lexer<'a>,
    token: Token<'a>,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn error(&self, byte: usize, what: impl Into<String>) -> SyntaxError {
        self.lexer.error(byte, what)
    }

    fn expected(&self, what: &str) -> SyntaxError {
        let found = match self.token.kind {
            Kind::End => "the expression ends".to_owned(),
            _ => format!("{} is", shown(&self.text[self.token.start..self.token.end])),
        };
        self.error(self.token.start, format!("{found} here, expected {what}"))
    }

    fn advance(&mut self) -> Result<Token<'a>, SyntaxError> {
        let next = self.lexer.next()?;
        Ok(std::mem::replace(&mut self.token, next))
    }

    fn take_symbol(&mut self, symbol: &'static str) -> Result<bool, SyntaxError> {
        let is_it = self.token.kind == Kind::Symbol(symbol);
        if is_it {
            self.advance()?;
        }
        Ok(is_it)
    }

    fn take_keyword(&mut self, keyword: Keyword) -> Result<bool, SyntaxError> {
        let is_it = self.token.kind == Kind::Keyword(keyword);
        if is_it {
            self.advance()?;
        }
        Ok(is_it)
    }

    /// LIKE and ESCAPE are words only where an operator may stand: properties may have these names, as in Java.
    fn take_word(&mut self, word: &str) -> Result<bool, SyntaxError> {
        let is_it = matches!(self.token.kind, Kind::Name(name) if name.eq_ignore_ascii_case(word));
        if is_it {
            self.advance()?;
        }
        Ok(is_it)
    }

    fn node(&self, tree: Expression, start: usize, height: usize) -> Result<Node, SyntaxError> {
        if height > DEPTH_MAX {
            return Err(self.too_deep(start));
        }
        Ok(Node {
            tree,
            start,
            height,
        })
    }

    fn too_deep(&self, byte: usize) -> SyntaxError {
        self.error(
            byte,
            format!("the expression nests deeper than {DEPTH_MAX} here"),
        )
    }

    /// A part that must be a condition. A property by itself is one.
    fn condition(&self, node: Node) -> Result<Node, SyntaxError> {
        if node.tree.is_boolean() || matches!(node.tree, Expression::Property(_)) {
            return Ok(node);
        }
        Err(self.error(
            node.start,
            "expected a condition here, this is a number or a string",
        ))
    }

    fn or(&mut self) -> Result<Node, SyntaxError> {
        let first = self.and()?;
        self.chain(first, Keyword::Or, Expression::Or, Parser::and)
    }

    fn and(&mut self) -> Result<Node, SyntaxError> {
        let first = self.equality()?;
        self.chain(first, Keyword::And, Expression::And, Parser::equality)
    }

    fn chain(
        &mut self,
        first: Node,
        word: Keyword,
        join: fn(Vec<Expression>) -> Expression,
        part: fn(&mut Self) -> Result<Node, SyntaxError>,
    ) -> Result<Node, SyntaxError> {
        if self.token.kind != Kind::Keyword(word) {
            return Ok(first);
        }
        let first = self.condition(first)?;
        let (start, mut height) = (first.start, first.height);
        let mut parts = vec![first.tree];
        while self.take_keyword(word)? {
            let next = part(self)?;
            let next = self.condition(next)?;
            height = height.max(next.height);
            parts.push(next.tree);
        }
        self.node(join(parts), start, height + 1)
    }

    fn equality(&mut self) -> Result<Node, SyntaxError> {
        let mut left = self.comparison()?;
        loop {
            let how = match self.token.kind {
                Kind::Symbol("=") => Comparison::Equal,
                Kind::Symbol("<>") => Comparison::Unequal,
                Kind::Keyword(Keyword::Is) => {
                    self.advance()?;
                    let negated = self.take_keyword(Keyword::Not)?;
                    if !self.take_keyword(Keyword::Null)? {
                        return Err(self.expected("NULL"));
                    }
                    let (start, height) = (left.start, left.height + 1);
                    let tree = Expression::IsNull(Box::new(left.tree), negated);
                    left = self.node(tree, start, height)?;
                    continue;
                }
                _ => return Ok(left),
            };
            self.advance()?;
            let right = self.comparison()?;
            for side in [&left, &right] {
                if side.tree == Expression::Null {
                    return Err(self.error(side.start, "NULL equals nothing; write IS NULL"));
                }
            }
            let is_constant = |tree: &Expression| {
                matches!(
                    tree,
                    Expression::Whole(_) | Expression::Decimal(_) | Expression::Text(_)
                )
            };
            if matches!(left.tree, Expression::Bool(_)) && is_constant(&right.tree) {
                return Err(self.error(
                    right.start,
                    "expected TRUE, FALSE or a property to compare with",
                ));
            }
            left = self.compare(how, left, right)?;
        }
    }

    fn compare(&self, how: Comparison, left: Node, right: Node) -> Result<Node, SyntaxError> {
        let (start, height) = (left.start, left.height.max(right.height) + 1);
        let tree = Expression::Compare(how, Box::new(left.tree), Box::new(right.tree));
        self.node(tree, start, height)
    }

    /// An operand of `<`, BETWEEN and their like. Java 5.3: `ComparisonExpression.checkLessThanOperand`.
    fn quantity(&self, node: Node) -> Result<Node, SyntaxError> {
        if node.tree.is_boolean() || matches!(node.tree, Expression::Text(_)) {
            return Err(self.error(node.start, "expected a number or a property here"));
        }
        Ok(node)
    }

    fn comparison(&mut self) -> Result<Node, SyntaxError> {
        let mut left = self.unary()?;
        loop {
            let how = match self.token.kind {
                Kind::Symbol(">") => Comparison::Greater,
                Kind::Symbol(">=") => Comparison::GreaterOrEqual,
                Kind::Symbol("<") => Comparison::Less,
                Kind::Symbol("<=") => Comparison::LessOrEqual,
                _ => match self.predicate(left)? {
                    (node, true) => {
                        left = node;
                        continue;
                    }
                    (node, false) => return Ok(node),
                },
            };
            left = self.quantity(left)?;
            self.advance()?;
            let right = self.unary()?;
            let right = self.quantity(right)?;
            left = self.compare(how, left, right)?;
        }
    }

    /// What may follow an operand as a word, with or without NOT; and whether something did.
    fn predicate(&mut self, left: Node) -> Result<(Node, bool), SyntaxError> {
        let negated = self.take_keyword(Keyword::Not)?;
        let search = match self.token.kind {
            Kind::Keyword(Keyword::Contains) => Some(Search::Anywhere),
            Kind::Keyword(Keyword::StartsWith) => Some(Search::Start),
            Kind::Keyword(Keyword::EndsWith) => Some(Search::End),
            _ => None,
        };
        let (start, height) = (left.start, left.height + 1);
        let tree = if let Some(place) = search {
            self.advance()?;
            Expression::Search(place, Box::new(left.tree), self.text()?, negated)
        } else if self.take_keyword(Keyword::Between)? {
            return Ok((self.between(left, negated)?, true));
        } else if self.take_keyword(Keyword::In)? {
            let Expression::Property(name) = left.tree else {
                return Err(self.error(start, "expected a property before IN"));
            };
            Expression::In(name, self.list()?, negated)
        } else if self.take_word("LIKE")? {
            self.like(left.tree, negated)?
        } else if negated {
            return Err(
                self.expected("BETWEEN, IN, LIKE, CONTAINS, STARTSWITH or ENDSWITH after NOT")
            );
        } else {
            return Ok((left, false));
        };
        Ok((self.node(tree, start, height)?, true))
    }

    fn between(&mut self, value: Node, negated: bool) -> Result<Node, SyntaxError> {
        let value = self.quantity(value)?;
        let low = self.unary()?;
        let low = self.quantity(low)?;
        if !self.take_keyword(Keyword::And)? {
            return Err(self.expected("AND and the upper end of BETWEEN"));
        }
        let high = self.unary()?;
        let high = self.quantity(high)?;
        if !negated && is_above(&low.tree, &high.tree) {
            return Err(self.error(
                low.start,
                "the lower end of BETWEEN is above the upper one, nothing can be between them",
            ));
        }
        let height = value.height.max(low.height).max(high.height) + 1;
        let start = value.start;
        let tree = Expression::Between(Box::new([value.tree, low.tree, high.tree]), negated);
        self.node(tree, start, height)
    }

    fn like(&mut self, value: Expression, negated: bool) -> Result<Expression, SyntaxError> {
        let at = self.token.start;
        let pattern = self.text()?;
        let mut escape = None;
        if self.take_word("ESCAPE")? {
            let at = self.token.start;
            let text = self.text()?;
            let mut characters = text.chars();
            escape = characters.next();
            if escape.is_none() || characters.next().is_some() {
                return Err(self.error(at, "expected one character behind ESCAPE"));
            }
        }
        if Like::compile(&pattern, escape).is_none() {
            return Err(self.error(
                at,
                "in this pattern the ESCAPE character does not stand before %, _ or itself",
            ));
        }
        Ok(Expression::Like(Box::new(value), pattern, escape, negated))
    }

    fn list(&mut self) -> Result<Vec<String>, SyntaxError> {
        if !self.take_symbol("(")? {
            return Err(self.expected("( and a list of strings"));
        }
        let mut texts = vec![self.text()?];
        while self.take_symbol(",")? {
            texts.push(self.text()?);
        }
        if !self.take_symbol(")")? {
            return Err(self.expected(", or )"));
        }
        Ok(texts)
    }

    fn text(&mut self) -> Result<String, SyntaxError> {
        if !matches!(self.token.kind, Kind::Text(_)) {
            return Err(self.expected("a string in single quotes"));
        }
        match self.advance()?.kind {
            Kind::Text(text) => Ok(text.into_owned()),
            _ => Ok(String::new()),
        }
    }

    fn unary(&mut self) -> Result<Node, SyntaxError> {
        let start = self.token.start;
        let (is_minus, is_not) = match self.token.kind {
            Kind::Symbol("-") => (true, false),
            Kind::Symbol("+") => (false, false),
            Kind::Keyword(Keyword::Not) => (false, true),
            _ => return self.primary(),
        };
        self.enter()?;
        self.advance()?;
        let inner = self.unary_of_sign(is_minus)?;
        self.depth -= 1;
        let height = inner.height + 1;
        if is_minus {
            self.node(Expression::Negative(Box::new(inner.tree)), start, height)
        } else if is_not {
            let inner = self.condition(inner)?;
            self.node(Expression::Not(Box::new(inner.tree)), start, height)
        } else {
            Ok(inner)
        }
    }

    fn unary_of_sign(&mut self, is_minus: bool) -> Result<Node, SyntaxError> {
        // Only right behind a minus sign 2^63 is a whole number that fits.
        if is_minus && self.token.kind == Kind::Whole(1 << 63) {
            let token = self.advance()?;
            return self.node(Expression::Whole(1 << 63), token.start, 1);
        }
        self.unary()
    }

    fn enter(&mut self) -> Result<(), SyntaxError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.too_deep(self.token.start));
        }
        Ok(())
    }

    fn primary(&mut self) -> Result<Node, SyntaxError> {
        let start = self.token.start;
        if self.token.kind == Kind::Symbol("(") {
            self.enter()?;
            self.advance()?;
            let inner = self.or()?;
            if !self.take_symbol(")")? {
                return Err(self.expected("AND, OR, a comparison or )"));
            }
            self.depth -= 1;
            return Ok(Node { start, ..inner });
        }
        let tree = match &self.token.kind {
            Kind::Name(name) => Expression::Property((*name).to_owned()),
            Kind::Text(text) => Expression::Text(text.clone().into_owned()),
            Kind::Whole(value) if i64::try_from(*value).is_ok() => Expression::Whole(*value),
            Kind::Whole(value) => {
                return Err(self.error(start, format!("{value} is too large a number")));
            }
            Kind::Decimal(value) => Expression::Decimal(*value),
            Kind::Keyword(Keyword::True) => Expression::Bool(true),
            Kind::Keyword(Keyword::False) => Expression::Bool(false),
            Kind::Keyword(Keyword::Null) => Expression::Null,
            _ => return Err(self.expected("a property, a number, a string, NOT or (")),
        };
        self.advance()?;
        self.node(tree, start, 1)
    }
}

/// Whether both are constants and the first is the greater one.
fn is_above(low: &Expression, high: &Expression) -> bool {
    let number = |tree: &Expression| match tree {
        Expression::Whole(value) => Some(*value as f64),
        Expression::Decimal(value) => Some(*value),
        _ => None,
    };
    match (low, high) {
        (Expression::Whole(low), Expression::Whole(high)) => low > high,
        _ => matches!((number(low), number(high)), (Some(low), Some(high)) if low > high),
    }
}
