//! Damaged files: what was never acknowledged is cleared, what was is never given up silently.
//!
//! Files are changed only while no server runs.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::place::Place;
use super::process::Launch;
use super::rest::Rest;

/// Frames begin at multiples of it (FORMAT.md).
const BLOCK_BYTES: usize = 4_096;
const FRAME_MAGIC: &[u8] = b"THRF";
/// Somewhere within the first record of a frame.
const WITHIN_FRAME: usize = 64 + 112;
const MESSAGES: u64 = 6;

/// A data directory after a kill, with one message per commit, and its only segment with frames.
struct Scene {
    data: tempfile::TempDir,
    place: Place,
    segment: PathBuf,
    frames: Vec<usize>,
}

impl Scene {
    fn make() -> Self {
        let data = tempfile::tempdir().unwrap();
        let server = Launch::serve(data.path()).start();
        let place = Place::make(&server, &["ada"]);
        let mut ada = place.enter(&server, 0);
        for number in 1..=MESSAGES {
            ada.store(place.channel, &format!("{number}"));
        }
        server.kill();
        let mut segments = Vec::new();
        find_segments(&data.path().join("segments"), &mut segments);
        let with_frames = segments.into_iter().map(|path| (frames(&path), path));
        let (frames, segment) = with_frames.max_by_key(|(frames, _)| frames.len()).unwrap();
        assert!(frames.len() as u64 > MESSAGES, "an opening and the commits");
        Self {
            data,
            place,
            segment,
            frames,
        }
    }

    /// All messages are there, and it goes on.
    fn goes_on(&self) {
        let server = Launch::serve(self.data.path()).start();
        let past = Rest::new(server.address).past(self.place.token(0), self.place.channel);
        let contents: Vec<String> = past.into_iter().map(|message| message.content).collect();
        let expected: Vec<String> = (1..=MESSAGES).map(|number| number.to_string()).collect();
        assert_eq!(contents, expected);
        let mut ada = self.place.enter(&server, 0);
        assert_eq!(ada.store(self.place.channel, "next").1, MESSAGES + 1);
        drop(ada);
        server.stop();
    }

    /// It does not start, says where the damage is, and changes nothing.
    fn is_refused(&self, offset: usize) {
        let before = fs::read(&self.segment).unwrap();
        for _ in 0..2 {
            let ended = Launch::serve(self.data.path()).run();
            assert_eq!(ended.code, Some(1), "{}", ended.errors);
            let path = self.segment.to_str().unwrap();
            for said in [path, &format!("at offset {offset}")] {
                assert!(ended.errors.contains(said), "{said}: {}", ended.errors);
            }
            assert!(fs::read(&self.segment).unwrap() == before, "left as it is");
        }
    }

    fn flip(&self, offset: usize) {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&self.segment);
        let (file, mut byte) = (file.unwrap(), [0]);
        file.read_exact_at(&mut byte, offset as u64).unwrap();
        file.write_all_at(&[byte[0] ^ 0x10], offset as u64).unwrap();
    }
}

fn find_segments(under: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(under).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            find_segments(&path, found);
        } else if path.extension().is_some_and(|name| name == "log") {
            found.push(path);
        }
    }
}

/// Where the frames of a segment begin.
fn frames(path: &Path) -> Vec<usize> {
    let bytes = fs::read(path).unwrap();
    let blocks = bytes.chunks(BLOCK_BYTES).enumerate();
    let begins = blocks.filter(|(_, block)| block.starts_with(FRAME_MAGIC));
    begins.map(|(index, _)| index * BLOCK_BYTES).collect()
}

#[test]
fn a_write_that_was_cut_short_is_cleared() {
    let scene = Scene::make();
    let bytes = fs::read(&scene.segment).unwrap();
    let end = scene.frames.last().unwrap() + BLOCK_BYTES;
    // What a torn write of one more frame leaves: its beginning, and none of its rest.
    let mut torn = bytes[scene.frames[1]..][..BLOCK_BYTES].to_vec();
    torn[BLOCK_BYTES / 8..].fill(0xa5);
    let file = OpenOptions::new().write(true).open(&scene.segment).unwrap();
    file.write_all_at(&torn, end as u64).unwrap();
    drop(file);
    scene.goes_on();
}

#[test]
fn damage_to_what_was_acknowledged_is_refused() {
    let scene = Scene::make();
    for frame in &scene.frames[1..=3] {
        scene.flip(frame + WITHIN_FRAME);
        scene.is_refused(*frame);
        scene.flip(frame + WITHIN_FRAME);
    }
    scene.goes_on();
}

#[test]
fn a_segment_that_others_refer_to_is_missed() {
    let scene = Scene::make();
    Launch::serve(scene.data.path()).start().stop();
    let aside = scene.data.path().join("aside");
    fs::rename(&scene.segment, &aside).unwrap();
    let ended = Launch::serve(scene.data.path()).run();
    assert_eq!(ended.code, Some(1), "{}", ended.errors);
    assert!(ended.errors.contains("missing"), "{}", ended.errors);
    fs::rename(&aside, &scene.segment).unwrap();
    scene.goes_on();
}
