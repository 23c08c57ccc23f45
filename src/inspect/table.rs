//! An inspection as a plain table for people, at most a hundred columns wide but for long names.

use std::fmt;

use super::{BlobSums, ExpectedAt, Inspection, SparseIndex, Sum};
use crate::payload::{Format, ImageState};
use crate::printable::escaped;
use crate::units::{count, format_bytes};

/// The widest a name may be and still share a line with its numbers, in characters.
const NAME_MAX_CHARS: usize = 26;
/// The widest a list of platforms may be; longer ones are counted, in characters.
const PLATFORMS_MAX_CHARS: usize = 26;
const HEADS: [&str; 4] = ["carried blobs", "expected blobs", "left-out blobs", "platforms"];

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let format = match self.format {
            Format::Native => format!("version {}", self.version),
            Format::Charon => "docker-charon's format".to_owned(),
        };
        let length = format_bytes(self.length_bytes);
        writeln!(
            f,
            "{}: {length}, written by {}, {format}",
            escaped(&self.name),
            escaped(&self.tool)
        )?;
        if let Some(key) = self.signature_key {
            writeln!(
                f,
                "with a signature by the key {key}, not checked: `kharon verify --verify-key`"
            )?;
        }
        if !self.volumes.is_empty() {
            let last = self.volumes.len() + self.volumes_missing.len();
            let numbers: Vec<String> = self.volumes.iter().map(ToString::to_string).collect();
            let whose = if self.volumes.len() == 1 { "volume" } else { "volumes" };
            writeln!(
                f,
                "{whose} {} of {last}; what follows is of the whole payload",
                numbers.join(", ")
            )?;
        }
        writeln!(f)?;
        self.write_images(f)?;
        self.write_expected(f)?;
        if self.savings.has_deltas() {
            writeln!(f, "{}", self.savings)?;
        }
        let layout = match (self.complete_layout, self.format) {
            (true, _) => "unzipped, it is a complete OCI image layout",
            (false, Format::Native) => "unzipped, it is an OCI image layout with parts missing",
            (false, Format::Charon) => "unzipped, it is no OCI image layout",
        };
        writeln!(f, "{layout}")
    }
}

impl Inspection {
    fn write_images(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows = vec![("image".to_owned(), HEADS.map(str::to_owned))];
        for image in &self.images {
            let mut cells = cells(&image.blobs_by_travel);
            cells[3] = match image.state {
                ImageState::Skipped => "skipped".to_owned(),
                ImageState::Carried => platforms(&image.platforms),
            };
            rows.push((escaped(&image.name), cells));
        }
        if self.images.len() > 1 {
            rows.push(("together".to_owned(), cells(&self.blobs_by_travel)));
        }
        write_table(f, &rows)?;
        for image in &self.images {
            for SparseIndex { digest, absent } in &image.sparse {
                let name = escaped(&image.name);
                writeln!(
                    f,
                    "{name}: {} of the index {} left behind",
                    count(absent.len() as u64, "manifest"),
                    digest.short()
                )?;
            }
            if let Some(former) = &image.converted_from {
                let name = escaped(&image.name);
                writeln!(f, "{name}: converted from Docker's schema 1, {}", former.short())?;
            }
            if !image.referrers.is_empty() {
                let name = escaped(&image.name);
                writeln!(f, "{name}: with {}", count(image.referrers.len() as u64, "referrer"))?;
            }
        }
        writeln!(f)
    }

    fn write_expected(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.expected.is_empty() {
            return Ok(());
        }
        writeln!(f, "expected at the far side:")?;
        for ExpectedAt { repository, blobs, .. } in &self.expected {
            writeln!(f, "  {repository}: {}", sum(*blobs))?;
        }
        writeln!(f)
    }
}

fn cells(sums: &BlobSums) -> [String; 4] {
    let mut carried = sum(sums.carried);
    if sums.deltas.count > 0 {
        carried = format!("{carried} + {}", count(sums.deltas.count, "delta"));
    }
    [carried, sum(sums.expected), sum(sums.left_out), String::new()]
}

/// Aligned columns; a name that is too wide gets a line of its own.
fn write_table(f: &mut fmt::Formatter<'_>, rows: &[(String, [String; 4])]) -> fmt::Result {
    let width = |text: &String| text.chars().count();
    let name_width =
        rows.iter().map(|(name, _)| width(name)).filter(|&w| w <= NAME_MAX_CHARS).max();
    let name_width = name_width.unwrap_or_default();
    let widths: Vec<usize> = (0..HEADS.len())
        .map(|column| rows.iter().map(|(_, cells)| width(&cells[column])).max().unwrap_or_default())
        .collect();
    for (name, cells) in rows {
        let mut line = format!("{name:name_width$}");
        if width(name) > name_width {
            writeln!(f, "{name}")?;
            line = " ".repeat(name_width);
        }
        for (cell, width) in cells.iter().zip(&widths) {
            line.extend(["  ", cell.as_str(), &" ".repeat(width - cell.chars().count())]);
        }
        writeln!(f, "{}", line.trim_end())?;
    }
    Ok(())
}

fn sum(sum: Sum) -> String {
    match sum.count {
        0 => "-".to_owned(),
        count => format!("{count}, {}", format_bytes(sum.bytes)),
    }
}

fn platforms(platforms: &[String]) -> String {
    match escaped(&platforms.join(", ")) {
        none if none.is_empty() => "-".to_owned(),
        long if platforms.len() > 1 && long.chars().count() > PLATFORMS_MAX_CHARS => {
            format!("{} platforms", platforms.len())
        }
        list => list,
    }
}
