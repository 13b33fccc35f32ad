//! A file system on a loop device, whose every sector written is counted.
//!
//! ext4, noatime and lazytime, as a gateway mounts its card. The image lies in memory by default: sectors are
//! counted at the loop device, so what is below it changes nothing but the time that a run takes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Of the image; sparse.
const IMAGE_BYTES: u64 = 2 << 30;

/// A mounted image. Unmounted when dropped; the device goes with it.
pub struct Flash {
    directory: PathBuf,
    stat: PathBuf,
}

/// What has gone to the device.
#[derive(Debug, Clone, Copy)]
pub struct Written {
    /// Bytes.
    pub bytes: f64,
    /// Requests to flush its cache.
    pub flushes: f64,
}

impl Flash {
    /// Makes and mounts it at `directory`.
    pub fn mount(directory: &Path, images: &Path) -> Flash {
        fs::create_dir_all(directory).unwrap();
        let image = images.join(format!("nsq-edge-bench.{}.img", std::process::id()));
        let file = fs::File::create(&image).unwrap_or_else(|e| panic!("{image:?}: {e}"));
        file.set_len(IMAGE_BYTES).unwrap();
        let name = image.to_str().unwrap();
        // Not lazily: the kernel would write inode tables in the background, into our count.
        let eager = "lazy_itable_init=0,lazy_journal_init=0";
        run("mkfs.ext4", &["-q", "-F", "-E", eager, name]);
        let device = run("losetup", &["--find", "--show", name]);
        let device = device.trim();
        // The device holds on to it, and lets go of it and of itself at the unmount.
        fs::remove_file(&image).unwrap();
        let at = directory.to_str().unwrap();
        run("mount", &["-o", "noatime,lazytime", device, at]);
        run("losetup", &["--detach", device]);
        let short = device.trim_start_matches("/dev/");
        let flash = Flash {
            directory: directory.to_path_buf(),
            stat: PathBuf::from(format!("/sys/block/{short}/stat")),
        };
        flash.sync();
        flash
    }

    /// Writes out all that the kernel still holds.
    pub fn sync(&self) {
        run("sync", &["-f", self.directory.to_str().unwrap()]);
    }

    /// What has been written so far, after a sync.
    pub fn written(&self) -> Written {
        self.sync();
        let stat = fs::read_to_string(&self.stat).unwrap();
        // Documentation/block/stat.rst: the 7th is sectors of 512 bytes written, the 16th flushes.
        let field = |at: usize| -> f64 {
            let text = stat.split_whitespace().nth(at).unwrap_or("0");
            text.parse().unwrap()
        };
        Written {
            bytes: field(6) * 512.0,
            flushes: field(15),
        }
    }
}

impl Drop for Flash {
    fn drop(&mut self) {
        run("umount", &[self.directory.to_str().unwrap()]);
    }
}

fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program)
        .args(args)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(
        output.status.success(),
        "{program} {}: {}(loop devices and mounts need root)",
        args.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}
