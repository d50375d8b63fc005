use super::*;

fn header() -> pb::ExportHeader {
    let export_id = vec![7; 16].into();
    pb::ExportHeader { format: FORMAT, export_id, cluster: vec![8; 16].into(), regions: vec!["north".into()] }
}

fn page(n: u8) -> pb::ExportAccountsReply {
    let account = vec![n; 3].into();
    let bundle = pb::AccountBundle { account, set_version: n.into(), ..pb::AccountBundle::default() };
    let cursor = Some(pb::Cursor { shard: 100, account: vec![n; 3].into() });
    pb::ExportAccountsReply { accounts: vec![bundle], cursor, ..pb::ExportAccountsReply::default() }
}

/// A whole file of three pages.
fn whole(dir: &Path) -> PathBuf {
    let path = dir.join("accounts.kindred");
    let mut writer = Writer::create(&path, header()).unwrap();
    (1..=3).for_each(|n| writer.add(page(n)).unwrap());
    writer.finish().unwrap();
    path
}

fn pages(path: &Path) -> Result<(Vec<pb::ExportAccountsReply>, bool), Error> {
    let (mut reader, mut pages) = (Reader::open(path)?, Vec::new());
    loop {
        match reader.next()? {
            Next::Accounts(page) => pages.push(page),
            Next::End => return Ok((pages, true)),
            Next::CutOff => return Ok((pages, false)),
        }
    }
}

#[test]
fn a_file_reads_back_as_it_was_written_and_is_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let path = whole(dir.path());
    assert_eq!(pages(&path).unwrap(), ((1..=3).map(page).collect(), true));
    assert!(matches!(Writer::create(&path, header()), Err(Error::Io { .. })));
}

#[test]
fn an_export_that_was_cut_off_anywhere_goes_on_and_becomes_the_same_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = whole(dir.path());
    let bytes = std::fs::read(&path).unwrap();
    let mut cuts = 0;
    for cut in 1..bytes.len() {
        std::fs::write(&path, &bytes[..cut]).unwrap();
        let Ok(mut writer) = Writer::resume(&path) else {
            continue; // Not even the header was whole.
        };
        cuts += 1;
        assert!(!writer.extent.is_complete && writer.extent.offset <= cut as u64);
        let done = writer.extent.cursor.clone().map_or(0, |cursor| cursor.account[0]);
        (done + 1..=3).for_each(|n| writer.add(page(n)).unwrap());
        writer.finish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), bytes, "cut at {cut}");
    }
    assert!(cuts > bytes.len() / 2);
}

#[test]
fn a_byte_that_was_changed_is_noticed_wherever_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = whole(dir.path());
    let bytes = std::fs::read(&path).unwrap();
    for at in 0..bytes.len() {
        let mut spoiled = bytes.clone();
        spoiled[at] ^= 0x11;
        std::fs::write(&path, &spoiled).unwrap();
        // Damaged, or, where a length was made longer, cut off; but never whole.
        assert!(!matches!(pages(&path), Ok((_, true))), "byte {at}");
    }
    std::fs::write(&path, [&bytes[..], &[1]].concat()).unwrap();
    assert!(pages(&path).is_err(), "something behind the trailer");
}

#[test]
fn a_length_beyond_all_bounds_takes_no_memory() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hostile");
    for hostile in [&[0xFF, 0xFF, 0xFF, 0x7F][..], &[0xFF; 16], &[0x80, 0x80, 0x80, 0x80, 0x01]] {
        std::fs::write(&path, hostile).unwrap();
        assert!(matches!(Reader::open(&path), Err(Error::Damaged { .. })), "{hostile:?}");
    }
}
