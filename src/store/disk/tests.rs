use super::*;

/// What every disk does.
fn conformance(disk: &dyn Disk, root: &Path) {
    let kind = |error: io::Error| error.kind();
    let folder = root.join("a/b");
    disk.create_dir(&folder).expect("makes both");
    disk.create_dir(&folder).expect("nothing to do");
    let path = folder.join("file");
    assert_eq!(disk.open(&path).err().map(kind), Some(io::ErrorKind::NotFound));
    assert_eq!(disk.create(&root.join("no/file")).err().map(kind), Some(io::ErrorKind::NotFound));

    let file = disk.create(&path).expect("creates");
    assert_eq!(disk.create(&path).err().map(kind), Some(io::ErrorKind::AlreadyExists));
    assert!(file.is_empty().expect("asks"));
    file.append(&[b"one ", b"", b"two"]).expect("appends");
    file.append(&[]).expect("nothing to append");
    file.append(&[b" three"]).expect("appends");
    file.sync().expect("syncs");
    assert_eq!(file.len().expect("asks"), 13);
    let mut bytes = [0; 5];
    file.read_at(&mut bytes, 8).expect("reads what it wrote");
    assert_eq!(&bytes, b"three");
    assert_eq!(file.read_at(&mut bytes, 9).map_err(kind), Err(io::ErrorKind::UnexpectedEof));
    assert_eq!(read_whole(disk, &path, 13).expect("reads"), b"one two three");
    assert_eq!(read_whole(disk, &path, 12).map_err(kind), Err(io::ErrorKind::InvalidData));

    let held = disk.open(&path).expect("opens");
    assert!(held.append(&[b"!"]).is_err(), "opened for reading");
    let other = folder.join("other");
    disk.rename(&path, &other).expect("renames");
    disk.sync_dir(&folder).expect("syncs");
    assert_eq!(disk.rename(&path, &other).map_err(kind), Err(io::ErrorKind::NotFound));
    assert_eq!(disk.list(&folder).expect("lists"), [Listed { name: "other".into(), len: Some(13) }]);
    assert_eq!(disk.list(&root.join("a")).expect("lists"), [Listed { name: "b".into(), len: None }]);
    assert_eq!(disk.list(&path).err().map(kind), Some(io::ErrorKind::NotFound));

    disk.cut(&other, 7).expect("cuts");
    assert_eq!(held.len().expect("asks"), 7);
    disk.unlink(&other).expect("unlinks");
    assert_eq!(disk.unlink(&other).map_err(kind), Err(io::ErrorKind::NotFound));
    held.read_at(&mut bytes, 0).expect("a holder reads on");
    assert_eq!(&bytes, b"one t");
    assert_eq!(disk.list(&folder).expect("lists"), []);

    write_whole(disk, &path, &[b"first"]).expect("writes");
    write_whole(disk, &path, &[b"sec", b"ond"]).expect("replaces");
    assert_eq!(read_whole(disk, &path, 100).expect("reads"), b"second");
    assert_eq!(disk.list(&folder).expect("lists").len(), 1, "no temporary file is left");

    let lock = disk.lock(&root.join("lock")).expect("locks").expect("is free");
    assert!(disk.lock(&root.join("lock")).expect("asks").is_none());
    drop(lock);
    assert!(disk.lock(&root.join("lock")).expect("asks").is_some());
    let (free, all) = disk.space(root).expect("asks");
    assert!(0 < free && free <= all);
}

#[test]
fn real_disk_conforms() {
    let folder = tempfile::tempdir().expect("a folder");
    conformance(&RealDisk, folder.path());
}

#[test]
fn simulated_disk_conforms() {
    let disk = SimulatedDisk::new(1);
    disk.create_dir(Path::new("/root")).expect("makes");
    conformance(&disk, Path::new("/root"));
}

/// A disk with a synced file of 5,000 bytes, its name durable, and 9,000 bytes more that are not synced.
fn half_synced(seed: u64) -> (SimulatedDisk, Vec<u8>) {
    let disk = SimulatedDisk::new(seed);
    let root = Path::new("/root");
    disk.create_dir(root).expect("makes");
    disk.sync_dir(Path::new("/")).expect("syncs");
    let file = disk.create(&root.join("file")).expect("creates");
    let bytes: Vec<u8> = (0..14_000u32).map(|i| (i % 251) as u8 + 1).collect();
    file.append(&[&bytes[..5000]]).expect("appends");
    file.sync().expect("syncs");
    disk.sync_dir(root).expect("syncs");
    disk.create(&root.join("unnamed")).expect("creates");
    file.append(&[&bytes[5000..9000]]).expect("appends");
    file.append(&[&bytes[9000..]]).expect("appends");
    (disk, bytes)
}

#[test]
fn crash_keeps_what_was_synced_and_anything_may_happen_to_the_rest() {
    let (mut short, mut whole, mut holes, mut named, mut unnamed) = (0, 0, 0, 0, 0);
    for seed in 0..200 {
        let (disk, bytes) = half_synced(seed);
        disk.crash();
        let path = Path::new("/root/file");
        let after = read_whole(&disk, path, 20_000).expect("its name is durable");
        assert_eq!(&after[..5000], &bytes[..5000]);
        short += u32::from(after.len() == 5000);
        whole += u32::from(after == bytes);
        holes += u32::from(after.len() > 5000 && after != bytes[..after.len()]);
        match disk.open(Path::new("/root/unnamed")) {
            Ok(_) => named += 1,
            Err(_) => unnamed += 1,
        }
    }
    for (what, count) in [("short", short), ("whole", whole), ("holes", holes), ("named", named), ("unnamed", unnamed)]
    {
        assert!(count > 5, "{what}: {count}");
    }
}

#[test]
fn same_seed_gives_the_same_accidents() {
    let after = |seed| {
        let (disk, _) = half_synced(seed);
        disk.crash();
        read_whole(&disk, Path::new("/root/file"), 20_000).expect("reads")
    };
    assert_eq!(after(7), after(7));
    assert!((0..20).any(|seed| after(seed) != after(7)));
}

#[test]
fn files_of_a_life_before_the_crash_are_gone() {
    let (disk, _) = half_synced(3);
    let file = disk.open(Path::new("/root/file")).expect("opens");
    disk.crash();
    assert!(file.len().is_err());
}
