//! What a data set holds, counted: for `data info`, as a table and as JSON.

use std::fmt;

use serde::Serialize;

use super::{Dataset, Split};

/// A summary of a data set.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Info {
    /// The data set's name.
    pub name: String,
    /// Height and width of an image, in pixels.
    pub side: usize,
    /// The pixel value that stands for 1.
    pub scale: f32,
    /// Class names in the order of the labels.
    pub classes: Vec<String>,
    /// Bytes of all pixels in memory.
    pub bytes: usize,
    /// `train`, `val` and `test`.
    pub splits: Vec<SplitInfo>,
}

/// A summary of a split.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SplitInfo {
    /// The split's name.
    pub split: String,
    /// How many images it has.
    pub images: usize,
    /// How many of each class.
    pub per_class: Vec<usize>,
}

impl Dataset {
    /// Count what is there, split by split and class by class.
    pub fn info(&self) -> Info {
        let count = |split: Split| {
            let mut per_class = vec![0; self.classes.len()];
            for &index in self.split(split) {
                per_class[self.label(index) as usize] += 1;
            }
            SplitInfo { split: split.to_string(), images: self.split(split).len(), per_class }
        };
        Info {
            name: self.name().to_owned(),
            side: self.side,
            scale: self.scale,
            classes: self.classes.clone(),
            bytes: self.images.len(),
            splits: Split::ALL.map(count).to_vec(),
        }
    }
}

impl fmt::Display for Info {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total: usize = self.splits.iter().map(|split| split.images).sum();
        writeln!(
            f,
            "{}: {total} images of {side} x {side} pixels in {} classes, {:.1} MB in memory",
            self.name,
            self.classes.len(),
            self.bytes as f64 / 1e6,
            side = self.side,
        )?;
        let width = self.classes.iter().map(|name| name.chars().count()).max().unwrap_or(0).clamp(5, 40);
        write!(f, "{:width$}", "class")?;
        for split in &self.splits {
            write!(f, " {:>8}", split.split)?;
        }
        for (class, name) in self.classes.iter().enumerate() {
            let name: String = name.chars().take(width).collect();
            write!(f, "\n{name:width$}")?;
            for split in &self.splits {
                write!(f, " {:>8}", split.per_class[class])?;
            }
        }
        write!(f, "\n{:width$}", "all")?;
        for split in &self.splits {
            write!(f, " {:>8}", split.images)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Spec, open};

    #[test]
    fn counts_add_up_and_the_table_shows_them() {
        let info = open(&Spec::new("digits", None)).unwrap().info();
        for split in &info.splits {
            assert_eq!(split.per_class.iter().sum::<usize>(), split.images);
        }
        assert_eq!(info.splits.iter().map(|s| s.images).collect::<Vec<_>>(), [1079, 359, 359]);
        let table = info.to_string();
        assert!(table.starts_with("digits: 1797 images of 8 x 8 pixels in 10 classes, 0.3 MB"), "{table}");
        assert!(table.ends_with("all       1079      359      359"), "{table}");
        assert_eq!(table.lines().count(), 1 + 1 + 10 + 1);
    }
}
