//! Directories of the simulated disk: names as the running system sees them, and as a power failure may leave them.
//!
//! Each directory is a journal of changes: a power failure keeps a prefix of those that were not synced. A rename is one
//! change: both names or neither.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path};

use super::content::Content;
use super::fault::{EEXIST, EISDIR, ENOENT, ENOTDIR, ENOTEMPTY, error};
use super::random::Random;

pub(super) type NodeId = u64;
const ROOT: NodeId = 0;

#[derive(Clone, Debug)]
pub(super) enum Node {
    Dir(Dir),
    File(Content),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Dir {
    names: BTreeMap<String, NodeId>,
    durable: BTreeMap<String, NodeId>,
}

/// A change of names, whole or not at all.
#[derive(Clone, Debug)]
struct Change {
    /// The directory whose sync order decides; the target's, for a rename.
    dir: NodeId,
    names: Vec<(NodeId, String, Option<NodeId>)>,
}

#[derive(Clone, Debug)]
pub(super) struct Names {
    nodes: BTreeMap<NodeId, Node>,
    next: NodeId,
    unsynced: Vec<Change>,
}

impl Names {
    pub(super) fn new() -> Self {
        Self {
            nodes: BTreeMap::from([(ROOT, Node::Dir(Dir::default()))]),
            next: ROOT + 1,
            unsynced: Vec::new(),
        }
    }

    pub(super) fn find(&self, path: &Path) -> io::Result<NodeId> {
        let mut node = ROOT;
        for name in parts(path) {
            node = *self
                .dir(node)?
                .names
                .get(&name)
                .ok_or_else(|| error(ENOENT))?;
        }
        Ok(node)
    }

    /// The directory that holds `path`, and the name in it.
    fn parent(&self, path: &Path) -> io::Result<(NodeId, String)> {
        let mut parts = parts(path);
        let name = parts.pop().ok_or_else(|| error(EISDIR))?;
        let mut node = ROOT;
        for part in parts {
            node = *self
                .dir(node)?
                .names
                .get(&part)
                .ok_or_else(|| error(ENOENT))?;
        }
        self.dir(node)?;
        Ok((node, name))
    }

    pub(super) fn dir(&self, node: NodeId) -> io::Result<&Dir> {
        match self.nodes.get(&node) {
            Some(Node::Dir(dir)) => Ok(dir),
            _ => Err(error(ENOTDIR)),
        }
    }

    pub(super) fn file(&mut self, node: NodeId) -> io::Result<&mut Content> {
        match self.nodes.get_mut(&node) {
            Some(Node::File(content)) => Ok(content),
            _ => Err(error(EISDIR)),
        }
    }

    pub(super) fn open(&mut self, path: &Path, create: bool) -> io::Result<NodeId> {
        match self.find(path) {
            Ok(node) => self.file(node).map(|_| node),
            Err(missing) if create && missing.kind() == io::ErrorKind::NotFound => {
                let (dir, name) = self.parent(path)?;
                Ok(self.add(dir, name, Node::File(Content::new())))
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn create_dir_all(&mut self, path: &Path) -> io::Result<()> {
        let mut node = ROOT;
        for name in parts(path) {
            node = match self.dir(node)?.names.get(&name) {
                Some(existing) => *existing,
                None => self.add(node, name, Node::Dir(Dir::default())),
            };
        }
        self.dir(node).map(|_| ()).map_err(|_| error(EEXIST))
    }

    pub(super) fn remove_file(&mut self, path: &Path) -> io::Result<()> {
        let node = self.find(path)?;
        self.file(node)?;
        let (dir, name) = self.parent(path)?;
        self.change(dir, vec![(dir, name, None)]);
        Ok(())
    }

    pub(super) fn remove_dir(&mut self, path: &Path) -> io::Result<()> {
        let node = self.find(path)?;
        if !self.dir(node)?.names.is_empty() {
            return Err(error(ENOTEMPTY));
        }
        let (dir, name) = self.parent(path)?;
        self.change(dir, vec![(dir, name, None)]);
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let node = self.find(from)?;
        self.file(node)?;
        let (from_dir, from_name) = self.parent(from)?;
        let (to_dir, to_name) = self.parent(to)?;
        if let Some(replaced) = self.dir(to_dir)?.names.get(&to_name).copied() {
            self.file(replaced)?;
            if replaced == node {
                return Ok(());
            }
        }
        self.change(
            to_dir,
            vec![(from_dir, from_name, None), (to_dir, to_name, Some(node))],
        );
        Ok(())
    }

    /// Name, whether it is a directory, length.
    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<(String, bool, u64)>> {
        let dir = self.dir(self.find(path)?)?;
        Ok(dir
            .names
            .iter()
            .map(|(name, node)| match &self.nodes[node] {
                Node::Dir(_) => (name.clone(), true, 0),
                Node::File(content) => (name.clone(), false, content.len()),
            })
            .collect())
    }

    pub(super) fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        let node = self.find(path)?;
        self.dir(node)?;
        let (synced, rest) = std::mem::take(&mut self.unsynced)
            .into_iter()
            .partition(|change| change.names.iter().any(|(dir, ..)| *dir == node));
        self.unsynced = rest;
        for change in synced {
            self.make_durable(&change);
        }
        Ok(())
    }

    /// Files that have a name.
    pub(super) fn named_files(&self) -> impl Iterator<Item = &Content> {
        let mut open = vec![ROOT];
        std::iter::from_fn(move || {
            while let Some(node) = open.pop() {
                match &self.nodes[&node] {
                    Node::Dir(dir) => open.extend(dir.names.values()),
                    Node::File(content) => return Some(content),
                }
            }
            None
        })
    }

    pub(super) fn files_mut(&mut self) -> impl Iterator<Item = &mut Content> {
        self.nodes.values_mut().filter_map(|node| match node {
            Node::File(content) => Some(content),
            Node::Dir(_) => None,
        })
    }

    /// What the device holds after a power failure.
    pub(super) fn after_power_failure(&self, random: &mut Random) -> Self {
        let mut survivor = self.clone();
        let mut left: BTreeMap<NodeId, u64> = BTreeMap::new();
        for change in &self.unsynced {
            *left.entry(change.dir).or_default() += 1;
        }
        for count in left.values_mut() {
            *count = match random.below(3) {
                0 => 0,
                1 => *count,
                _ => random.below(*count + 1),
            };
        }
        for change in &self.unsynced {
            let kept = left.get_mut(&change.dir).expect("counted above");
            if *kept > 0 {
                *kept -= 1;
                survivor.make_durable(change);
            }
        }
        survivor.unsynced.clear();
        let mut reachable = BTreeMap::new();
        survivor.collect(ROOT, random, &mut reachable);
        survivor.nodes = reachable;
        survivor
    }

    fn collect(&self, node: NodeId, random: &mut Random, into: &mut BTreeMap<NodeId, Node>) {
        match &self.nodes[&node] {
            Node::File(content) => {
                into.entry(node)
                    .or_insert_with(|| Node::File(content.after_power_failure(random)));
            }
            Node::Dir(dir) => {
                for child in dir.durable.values() {
                    self.collect(*child, random, into);
                }
                into.insert(
                    node,
                    Node::Dir(Dir {
                        names: dir.durable.clone(),
                        durable: dir.durable.clone(),
                    }),
                );
            }
        }
    }

    fn add(&mut self, dir: NodeId, name: String, node: Node) -> NodeId {
        let id = self.next;
        self.next += 1;
        self.nodes.insert(id, node);
        self.change(dir, vec![(dir, name, Some(id))]);
        id
    }

    fn change(&mut self, dir: NodeId, names: Vec<(NodeId, String, Option<NodeId>)>) {
        for (dir, name, node) in &names {
            if let Some(Node::Dir(dir)) = self.nodes.get_mut(dir) {
                put(&mut dir.names, name, *node);
            }
        }
        self.unsynced.push(Change { dir, names });
    }

    fn make_durable(&mut self, change: &Change) {
        for (dir, name, node) in &change.names {
            if let Some(Node::Dir(dir)) = self.nodes.get_mut(dir) {
                put(&mut dir.durable, name, *node);
            }
        }
    }
}

fn put(names: &mut BTreeMap<String, NodeId>, name: &str, node: Option<NodeId>) {
    match node {
        Some(node) => names.insert(name.to_owned(), node),
        None => names.remove(name),
    };
}

/// The names on the way to `path`. Relative paths begin at the root.
fn parts(path: &Path) -> Vec<String> {
    let mut parts = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => parts.push(name.to_string_lossy().into_owned()),
            Component::ParentDir => {
                parts.pop();
            }
            Component::Prefix(_) | Component::RootDir | Component::CurDir => {}
        }
    }
    parts
}
