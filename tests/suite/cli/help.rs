//! What the program says of itself.

use super::Shell;

#[test]
fn the_tree_is_this() {
    let shell = Shell::new();
    let mut found = Vec::new();
    let mut open = vec![String::new()];
    while let Some(path) = open.pop() {
        let help = shell.run(&format!("{path} --help")).expect(0).out;
        let commands = help.split_once("Commands:\n").map(|(_, rest)| rest.split("\n\n").next().unwrap_or_default());
        let names: Vec<&str> = commands
            .into_iter()
            .flat_map(str::lines)
            .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
            .filter_map(|line| line.split_whitespace().next())
            .filter(|name| *name != "help")
            .collect();
        if names.is_empty() {
            found.push(path.trim().to_owned());
        }
        open.extend(names.iter().map(|name| format!("{path} {name}")));
    }
    found.sort();
    let golden = include_str!("tree.txt");
    assert_eq!(found.join("\n") + "\n", golden, "what differs is a promise: change tests/suite/cli/tree.txt with care");
}

#[test]
fn a_mistyped_word_is_not_run_and_the_right_one_is_named() {
    let shell = Shell::new();
    let ran = shell.run("job creat").expect(2);
    assert!(ran.err.contains("create"), "{}", ran.err);
    let ran = shell.run("cluster resize --traget 2").expect(2);
    assert!(ran.err.contains("--target"), "{}", ran.err);
}

#[test]
fn completions_and_pages_are_made_of_the_commands() {
    let shell = Shell::new();
    for name in ["bash", "zsh", "fish"] {
        assert!(shell.run(&format!("completion {name}")).expect(0).out.contains("experiment"), "{name}");
    }
    shell.run("man --folder pages").expect(0);
    assert!(shell.read("pages/batchyard-job-create.1").contains("follow"));
    assert!(shell.run("man").expect(0).out.contains(".TH batchyard"));
}

#[test]
fn help_is_quick() {
    let shell = Shell::new();
    let mut took: Vec<_> = (0..7)
        .map(|_| {
            let began = std::time::Instant::now();
            shell.run("--help").expect(0);
            began.elapsed()
        })
        .collect();
    took.sort();
    // Of an unoptimised program, a shell before it among the time.
    assert!(took[0] < std::time::Duration::from_millis(150), "{took:?}");
}
