//! A tree into the form that messages are asked with: nodes in one piece of memory, constants converted, each property once.

use std::collections::{BTreeSet, HashMap};

use crate::like::Like;
use crate::number::Number;
use crate::parse::parse;
use crate::token::SyntaxError;
use crate::tree::{Comparison, Expression, Search};

/// An expression that messages can be asked with, from any thread.
#[derive(Clone, Debug)]
pub struct Filter {
    pub(crate) nodes: Box<[Node]>,
    /// The names of the properties that it reads.
    pub(crate) names: Box<[Box<str>]>,
}

/// Where a node lies in [`Filter::nodes`]: always behind its operands.
pub(crate) type Id = u32;

#[derive(Clone, Debug)]
pub(crate) enum Node {
    Null,
    Bool(bool),
    Number(Number),
    Text(Box<str>),
    Property(u32),
    /// A property as a condition.
    Condition(u32),
    Negative(Id),
    Not(Id),
    And(Box<[Id]>),
    Or(Box<[Id]>),
    Compare(Comparison, Id, Id),
    IsNull(Id, bool),
    Between([Id; 3], bool),
    In(u32, BTreeSet<Box<str>>, bool),
    Search(Search, Id, Box<str>, bool),
    Like(Id, Like, bool),
}

impl Filter {
    /// Compiles an expression. The error says where it is wrong and what was expected there.
    pub fn compile(text: &str) -> Result<Filter, SyntaxError> {
        Ok(Filter::of(&parse(text)?))
    }

    /// Memory that it takes, in bytes, about; for those who keep many.
    pub fn bytes(&self) -> usize {
        let names = self.names.iter().map(|name| size_of_val(name) + name.len());
        let nodes = self.nodes.iter().map(Node::bytes);
        size_of::<Filter>() + names.sum::<usize>() + nodes.sum::<usize>()
    }

    /// Compiles a tree that [`parse`] gave.
    pub(crate) fn of(tree: &Expression) -> Filter {
        let mut compiler = Compiler::default();
        compiler.condition(tree);
        let mut names = vec![Box::default(); compiler.names.len()];
        for (name, index) in compiler.names {
            names[index as usize] = name.into();
        }
        Filter {
            nodes: compiler.nodes.into(),
            names: names.into(),
        }
    }
}

impl Node {
    fn bytes(&self) -> usize {
        let behind = match self {
            Node::Text(text) | Node::Search(_, _, text, _) => text.len(),
            Node::And(parts) | Node::Or(parts) => size_of_val(&**parts),
            // A place in the tree, and an allocation for the text.
            Node::In(_, texts, _) => texts.iter().map(|text| 48 + text.len()).sum(),
            Node::Like(_, like, _) => like.bytes(),
            _ => 0,
        };
        size_of::<Node>() + behind
    }
}

#[derive(Default)]
struct Compiler<'a> {
    nodes: Vec<Node>,
    names: HashMap<&'a str, u32>,
}

impl<'a> Compiler<'a> {
    fn push(&mut self, node: Node) -> Id {
        self.nodes.push(node);
        self.nodes.len() as Id - 1
    }

    fn property(&mut self, name: &'a str) -> u32 {
        let next = self.names.len() as u32;
        *self.names.entry(name).or_insert(next)
    }

    fn condition(&mut self, tree: &'a Expression) -> Id {
        match tree {
            Expression::Property(name) => {
                let property = self.property(name);
                self.push(Node::Condition(property))
            }
            other => self.add(other),
        }
    }

    fn conditions(&mut self, trees: &'a [Expression]) -> Box<[Id]> {
        trees.iter().map(|tree| self.condition(tree)).collect()
    }

    fn add(&mut self, tree: &'a Expression) -> Id {
        let node = match tree {
            Expression::Null => Node::Null,
            Expression::Bool(value) => Node::Bool(*value),
            // 2^63 comes here only under a minus sign, which turns it over onto itself.
            Expression::Whole(value) => Node::Number(Number::Whole(*value as i64)),
            Expression::Decimal(value) => Node::Number(Number::Decimal(*value)),
            Expression::Text(text) => Node::Text(text.as_str().into()),
            Expression::Property(name) => Node::Property(self.property(name)),
            Expression::Negative(inner) => {
                let inner = self.add(inner);
                match &self.nodes[inner as usize] {
                    Node::Number(number) => Node::Number(number.negated()),
                    _ => Node::Negative(inner),
                }
            }
            Expression::Not(inner) => Node::Not(self.condition(inner)),
            Expression::And(parts) => Node::And(self.conditions(parts)),
            Expression::Or(parts) => Node::Or(self.conditions(parts)),
            Expression::Compare(how, left, right) => {
                Node::Compare(*how, self.add(left), self.add(right))
            }
            Expression::IsNull(inner, negated) => Node::IsNull(self.add(inner), *negated),
            Expression::Between(parts, negated) => {
                let [value, low, high] = &**parts;
                Node::Between([self.add(value), self.add(low), self.add(high)], *negated)
            }
            Expression::In(name, texts, negated) => {
                let texts = texts.iter().map(|text| text.as_str().into()).collect();
                Node::In(self.property(name), texts, *negated)
            }
            Expression::Search(place, inner, text, negated) => {
                Node::Search(*place, self.add(inner), text.as_str().into(), *negated)
            }
            Expression::Like(inner, pattern, escape, negated) => {
                let like = Like::compile(pattern, *escape).unwrap_or_else(|| {
                    Like::compile(pattern, None).expect("a pattern without escapes is valid")
                });
                Node::Like(self.add(inner), like, *negated)
            }
        };
        self.push(node)
    }
}
