//! Puts the console's built files where the program takes them in: `web/dist`, or a page that says how to build it.

use std::path::Path;
use std::{env, fs, io};

const NOT_BUILT: &str = "<!doctype html><meta charset=utf-8><title>Kinora</title>\
<p>This program was built without its console. Run <code>make build</code>, which builds <code>web/</code> first.\
<p>The API is at <a href=/openapi.json>/openapi.json</a>.\n";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    let out = env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    let console = Path::new(&out).join("console");
    if console.exists() {
        fs::remove_dir_all(&console)?;
    }
    let built = Path::new("web/dist");
    if built.join("index.html").exists() {
        println!("cargo::rerun-if-changed=web/dist");
        return copy(built, &console);
    }
    // A path that is missing would make cargo build anew every time.
    if Path::new("web").exists() {
        println!("cargo::rerun-if-changed=web");
    }
    fs::create_dir_all(&console)?;
    fs::write(console.join("index.html"), NOT_BUILT)
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
