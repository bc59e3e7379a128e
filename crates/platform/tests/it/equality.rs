//! Any sequence of operations gives the same results on both disks.

use std::path::Path;
use std::sync::Arc;

use platform::disk::{Disk, OpenMode, RealDisk, SimulatedDisk};
use proptest::prelude::*;

const NAMES: [&str; 5] = ["a", "b", "d/a", "d/b", "d"];

#[derive(Clone, Debug)]
enum Step {
    Write {
        name: usize,
        offset: u64,
        length: usize,
        byte: u8,
    },
    Read {
        name: usize,
        offset: u64,
        length: usize,
    },
    SetLen {
        name: usize,
        length: u64,
    },
    Reserve {
        name: usize,
        length: u64,
    },
    Remove {
        name: usize,
    },
    Rename {
        from: usize,
        to: usize,
    },
    CreateDir,
    RemoveDir,
}

fn step() -> impl Strategy<Value = Step> {
    let name = 0..NAMES.len();
    prop_oneof![
        (name.clone(), 0..9000u64, 0..6000usize, any::<u8>()).prop_map(
            |(name, offset, length, byte)| Step::Write {
                name,
                offset,
                length,
                byte
            }
        ),
        (name.clone(), 0..9000u64, 0..9000usize).prop_map(|(name, offset, length)| Step::Read {
            name,
            offset,
            length
        }),
        (name.clone(), 0..9000u64).prop_map(|(name, length)| Step::SetLen { name, length }),
        (name.clone(), 0..9000u64).prop_map(|(name, length)| Step::Reserve { name, length }),
        name.clone().prop_map(|name| Step::Remove { name }),
        (name.clone(), name).prop_map(|(from, to)| Step::Rename { from, to }),
        Just(Step::CreateDir),
        Just(Step::RemoveDir),
    ]
}

/// What a step gives, as far as both must agree.
fn run(disk: &dyn Disk, root: &Path, step: &Step) -> Option<Vec<u8>> {
    let path = |name: &usize| root.join(NAMES[*name]);
    let open = |name: &usize| disk.open(&path(name), OpenMode::Create).ok();
    match step {
        Step::Write {
            name,
            offset,
            length,
            byte,
        } => open(name)?
            .write_all_at(&vec![*byte; *length], *offset)
            .ok()?,
        Step::Read {
            name,
            offset,
            length,
        } => {
            let mut buf = vec![0; *length];
            let count = disk
                .open(&path(name), OpenMode::Read)
                .ok()?
                .read_at(&mut buf, *offset)
                .ok()?;
            buf.truncate(count);
            return Some(buf);
        }
        Step::SetLen { name, length } => open(name)?.set_len(*length).ok()?,
        Step::Reserve { name, length } => open(name)?.reserve(*length).ok()?,
        Step::Remove { name } => disk.remove(&path(name)).ok()?,
        // Directories are not renamed: the store never does, and the simulation refuses it.
        Step::Rename { from, to } if *from != 4 && *to != 4 => {
            disk.rename(&path(from), &path(to)).ok()?
        }
        Step::Rename { .. } => {}
        Step::CreateDir => disk.create_dir_all(&root.join("d")).ok()?,
        Step::RemoveDir => disk.remove_dir(&root.join("d")).ok()?,
    }
    Some(Vec::new())
}

/// Names and contents below `dir`.
fn everything(disk: &dyn Disk, dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in disk.list(dir).unwrap() {
        let path = dir.join(&entry.name);
        if entry.is_dir {
            found.push((entry.name.clone(), Vec::new()));
            found.extend(everything(disk, &path));
        } else {
            let mut bytes = vec![0; entry.len as usize];
            disk.open(&path, OpenMode::Read)
                .unwrap()
                .read_exact_at(&mut bytes, 0)
                .unwrap();
            found.push((entry.name.clone(), bytes));
        }
    }
    found
}

/// A file opened as a directory, or the other way round, is refused by both; which of them creates nothing.
fn is_file_below_file(disk: &dyn Disk, root: &Path, step: &Step) -> bool {
    let dir_is_file = disk.open(&root.join("d"), OpenMode::ReadWrite).is_ok();
    let touches = |name: &usize| *name == 2 || *name == 3;
    dir_is_file
        && match step {
            Step::Rename { from, to } => touches(from) || touches(to),
            _ => false,
        }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_disks_agree(steps in prop::collection::vec(step(), 1..40)) {
        let dir = tempfile::tempdir().unwrap();
        let root = Path::new("/data");
        let simulated = SimulatedDisk::new(1);
        simulated.create_dir_all(root).unwrap();
        let disks: [(Arc<dyn Disk>, &Path); 2] = [(Arc::new(RealDisk), dir.path()), (Arc::new(simulated), root)];
        for step in &steps {
            if is_file_below_file(&*disks[1].0, root, step) {
                continue;
            }
            let [real, simulated] = disks.each_ref().map(|(disk, root)| run(&**disk, root, step));
            prop_assert_eq!(real, simulated, "{:?}", step);
        }
        let [real, simulated] = disks.each_ref().map(|(disk, root)| everything(&**disk, root));
        prop_assert_eq!(real, simulated);
    }
}
