//! A file that shrinks while it is mapped ends the program with an error rather than a signal.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;

use tensor::Format;
use testkit::{TinyFormats, TinyModel};

use crate::support::{argument, command};

/// Talks with a model whose weights are read where they are in the file, and cuts the file off between two answers.
#[test]
fn a_file_that_shrinks_under_the_map_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let model = TinyModel { formats: TinyFormats::uniform(Format::Q2_K), ..TinyModel::wide("llama", 1) };
    std::fs::write(&path, model.parts().bytes()).unwrap();
    for (flags, code) in [(&[][..], 1), (&["--no-mmap"], 0)] {
        let mut command = command();
        command.args(["chat", &argument(&path), "--device", "reference", "--temp", "0", "-n", "3"]).args(flags);
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = pipes.spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        let mut answers = BufReader::new(child.stdout.take().unwrap());
        input.write_all(b"the\n").unwrap();
        let mut answer = Vec::new();
        answers.read_until(b'\n', &mut answer).unwrap();
        assert!(!answer.is_empty());
        let whole = std::fs::read(&path).unwrap();
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(100).unwrap();
        // The program may have ended already.
        let _ = input.write_all(b"the\n");
        drop(input);
        answers.read_to_end(&mut answer).unwrap();
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        assert_eq!(stderr.contains("lost bytes while it was in use"), code == 1, "{stderr}");
        std::fs::write(&path, whole).unwrap();
    }
}
