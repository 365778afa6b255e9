//! Selective conduits between real nodes: what is chosen comes, what is not leaves only what the source holds.

use std::fs;

use tidegate_tests::ends::{Failed, Outcome, check};
use tidegate_tests::mesh::Mesh;

const PROGRAM: &str = env!("CARGO_BIN_EXE_tidegate-under-test");

/// A home with some files, and a conduit to a phone that holds a selection of them.
fn chosen(files: &[(&str, &str)], selection: &[&str]) -> Result<Mesh, Failed> {
    let mesh = Mesh::new(PROGRAM, &["home", "phone"])?;
    for (path, content) in files {
        mesh.write(0, path, content)?;
    }
    mesh.link("pocket", 0, 1, &[&["--mode", "selective"], selection].concat())?;
    mesh.sync(0, "pocket", 0)?;
    Ok(mesh)
}

fn holds(mesh: &Mesh, expected: &[&str]) -> Outcome {
    let tree = mesh.tree(1)?;
    let files = tree.iter().filter(|(_, leaf)| **leaf != tidegate::lab::Leaf::Directory);
    let found: Vec<String> = files.map(|(path, _)| String::from_utf8_lossy(path).into_owned()).collect();
    check(found == expected, &format!("the phone was to hold {expected:?}, and holds {found:?}"))
}

fn modified(mesh: &Mesh, path: &str, seconds: u64) -> Outcome {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    Ok(fs::File::options().write(true).open(mesh.file(0, path))?.set_modified(time)?)
}

#[test]
fn subtrees_and_patterns_choose_and_exclusions_take_out_again() -> Outcome {
    let files = [("docs/a.md", "a"), ("docs/b.bin", "b"), ("music/c.mp3", "c"), ("readme.md", "r"), ("tmp/d.md", "d")];
    let mesh = chosen(&files, &["--subtree", "docs", "--include", "*.md", "--exclude", "tmp"])?;
    holds(&mesh, &["docs/a.md", "docs/b.bin", "readme.md"])?;
    mesh.devices[0].must(["conduit", "set", "pocket", "--max-size", "1 MB", "--exclude", "*.bin"])?;
    mesh.sync(0, "pocket", 0)?;
    holds(&mesh, &["docs/a.md", "readme.md", "tmp/d.md"])?;
    check(!mesh.trashed(1, "b"), "what was evicted leaves no trace, as the source holds it")?;
    check(mesh.read(0, "docs/b.bin").as_deref() == Some("b"), "the source is never written")
}

#[test]
fn a_budget_keeps_the_most_recent_and_pins_and_fetches_stay_beside_it() -> Outcome {
    let kilo = |c: char| c.to_string().repeat(1_000);
    let (a, b, c, d) = (kilo('a'), kilo('b'), kilo('c'), kilo('d'));
    let mesh = chosen(&[("keep", "k")], &["--subtree", "."])?;
    for (number, (path, content)) in [("a", &a), ("b", &b), ("c", &c), ("d", &d)].into_iter().enumerate() {
        mesh.write(0, path, content)?;
        modified(&mesh, path, 1_000_000 + number as u64)?;
    }
    modified(&mesh, "keep", 1)?;
    mesh.devices[0].must(["conduit", "set", "pocket", "--budget", "2200 B"])?;
    mesh.sync(0, "pocket", 0)?;
    holds(&mesh, &["c", "d"]).or_else(|_| holds(&mesh, &["c", "d", "keep"]))?;
    mesh.devices[0].must(["conduit", "pin", "pocket", "a"])?;
    mesh.sync(0, "pocket", 0)?;
    check(mesh.read(1, "a").is_some() && mesh.read(1, "d").is_some(), "the pin counts first, then the most recent")?;
    check(mesh.read(1, "c").is_none(), "and there is no room for the third")?;
    mesh.devices[0].must(["fetch", "b", "--conduit", "pocket", "--for", "1h"])?;
    check(mesh.read(1, "b").is_some(), "what is fetched comes")?;
    mesh.devices[0].must(["conduit", "unpin", "pocket", "b"])?;
    mesh.devices[0].must(["conduit", "unpin", "pocket", "a"])?;
    mesh.sync(0, "pocket", 0)?;
    check(mesh.read(1, "b").is_none() && mesh.read(1, "c").is_some(), "and goes when it is let go of")
}

#[test]
fn an_edit_on_the_target_is_never_discarded() -> Outcome {
    let mesh = chosen(&[("docs/a", "a"), ("docs/b", "b")], &["--subtree", "docs"])?;
    mesh.write(1, "docs/a", "edited on the phone")?;
    mesh.write(0, "docs/a", "edited at home")?;
    mesh.write(1, "docs/own", "the phone's own")?;
    mesh.sync(0, "pocket", 4)?;
    check(mesh.read(1, "docs/a").as_deref() == Some("edited on the phone"), "held as drift")?;
    mesh.devices[0].must(["conduit", "set", "pocket", "--subtree", "nothing"])?;
    let done = mesh.devices[0].run(["sync", "pocket"])?;
    check(matches!(done.code, 0 | 4), &done.to_string())?;
    check(mesh.read(1, "docs/a").as_deref() == Some("edited on the phone"), "not evicted: nobody else holds it")?;
    check(mesh.read(1, "docs/own").as_deref() == Some("the phone's own"), "the phone's own stays")?;
    check(mesh.read(1, "docs/b").is_none(), "what the source holds is evicted")?;
    check(mesh.read(0, "docs/a").as_deref() == Some("edited at home"), "the source is never written")
}

#[test]
fn what_is_deleted_at_home_goes_to_the_trash_of_the_target() -> Outcome {
    let mesh = chosen(&[("docs/a", "a"), ("docs/b", "b")], &["--subtree", "docs"])?;
    fs::remove_file(mesh.file(0, "docs/a"))?;
    mesh.sync(0, "pocket", 0)?;
    holds(&mesh, &["docs/b"])?;
    check(mesh.trashed(1, "a"), "a deletion is a deletion")
}
