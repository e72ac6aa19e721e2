//! A result under way: its plan, the list of what is done, the lock on it, and its end.

use super::journal::{Contents, Journal};
use super::place::{Place, begins_as, is_beside, is_hidden, is_there, not_ours};
use super::record::Record;
use super::shard::Shard;
use crate::error::{Error, Remedy, Result};
use crate::files::folders::{self, Made};
use crate::files::whole::{Whole, is_temporary};
use crate::files::writes::Writes;
use crate::files::writing::Underway;
use crate::files::{parent, sync_folder, with_suffix};
use crate::setting::RESTART;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// What a run made before it was known to go on there: removed where it does not.
#[derive(Debug)]
struct Unfit {
    journal: Option<PathBuf>,
    folder: Option<PathBuf>,
    /// After the others are removed, those of these that are empty go.
    above: Made,
}

impl Unfit {
    /// Makes the folder of a result under way, unless a run left it.
    ///
    /// # Errors
    /// [`Error::File`] where what is there is no such folder.
    fn make_folder(&mut self, place: &Place) -> Result<()> {
        let folder = place.partial();
        match std::fs::create_dir(&folder) {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                // What is written through a link lies elsewhere.
                if !std::fs::symlink_metadata(&folder).is_ok_and(|meta| meta.is_dir()) {
                    return Err(not_ours(&folder));
                }
                // Looked at before its list is looked for: a process that began meanwhile made its list first of all.
                let mut entries = std::fs::read_dir(&folder).map_err(Error::io(&folder))?;
                let occupied = entries.next().is_some();
                let begun = place.beside("plan.json").exists() || !place.journals()?.is_empty();
                place.check_under_way(&folder)?;
                // Arrays alone are somebody's.
                if occupied && !begun {
                    return Err(not_ours(&folder));
                }
                Ok(())
            }
            made => {
                made.map_err(Error::io(&folder))?;
                self.folder = Some(folder.clone());
                sync_folder(&parent(&folder))
            }
        }
    }

    /// All of it stays. Returns the folders that were made above the result.
    fn fits(mut self) -> Made {
        self.journal = None;
        self.folder = None;
        std::mem::take(&mut self.above)
    }
}

impl Drop for Unfit {
    fn drop(&mut self) {
        // Nothing can be done about a failure here: what is left is empty, and the next run takes it.
        if let Some(journal) = &self.journal {
            let _ = remove_if_there(journal);
        }
        if let Some(folder) = &self.folder {
            // Another process may have begun there: a folder that is not empty stays.
            let _ = std::fs::remove_dir(folder);
        }
    }
}

/// Whether a plan that cannot be read is one of ours that was torn, or of another version, and not somebody's file.
fn is_torn(plan: &Path) -> bool {
    crate::files::read(plan).is_ok_and(|bytes| begins_as(&bytes, Record::BEGINNING))
}

/// A result under way. Dropped before [`Partial::finish`] it stays where a tile was done, and is removed otherwise.
#[derive(Debug)]
pub(super) struct Partial {
    place: Place,
    shard: Shard,
    journal: Option<Journal>,
    keep: bool,
    /// The folders that were made above the result; once that is removed, those that are empty go too.
    above: Made,
    /// The last field: until all else is gone, the result is being written.
    _writing: Underway,
}

impl Partial {
    /// Begins a result, or goes on with one that was begun in the same way; returns what its list says.
    ///
    /// # Errors
    /// [`Error::OtherRun`] with what differs where the one begun is another, unless `restart`; [`Error::File`] where another
    /// process has it, or what is there is no such result.
    pub(super) fn open(
        place: &Place,
        record: &Record,
        shard: Shard,
        restart: bool,
        writes: Writes,
    ) -> Result<(Partial, Contents)> {
        let writing = Underway::writing();
        place.check()?;
        let mut begun = Unfit {
            above: folders::make(&parent(&place.target))?,
            journal: None,
            folder: None,
        };
        if !place.single() {
            begun.make_folder(place)?;
        }
        let path = place.journal(shard.index, shard.of);
        if !is_there(&path) {
            begun.journal = Some(path.clone());
        }
        let plan = place.beside("plan.json");
        if std::fs::symlink_metadata(&plan).is_ok_and(|meta| meta.is_symlink()) {
            return Err(not_ours(&plan));
        }
        let listed = begun.journal.is_none();
        let (journal, mut contents) = Journal::open(&path, &place.partial(), writes)?;
        let mut partial = Partial {
            place: place.clone(),
            shard,
            journal: Some(journal),
            // Until it is known to be this run's own, nothing of it is removed.
            keep: true,
            above: Made::default(),
            _writing: writing,
        };
        let earlier = match Record::read(&plan) {
            // A plan beside a list of hessblock's own belongs to a run, even if it is damaged.
            Err(_) if restart && shard.of == 1 && (listed || is_torn(&plan)) => None,
            read => read?,
        };
        let anew = match &earlier {
            None => true,
            Some(earlier) => {
                let differences = record.differences(earlier);
                let alone = shard.of == 1 && earlier.shards == 1;
                let anew = alone && (restart || contents.entries.is_empty());
                if !differences.is_empty() && !anew {
                    return Err(partial.refuse(earlier, &differences));
                }
                anew
            }
        };
        let digest = record.digest();
        let of_this_plan = |header: &serde_json::Value| header["plan"] == *digest;
        if anew {
            partial.clear()?;
            partial.write_plan(record)?;
            contents = Contents::default();
        } else if restart || !contents.notes.first().is_some_and(of_this_plan) {
            // The other processes' tiles are theirs; a list that another plan left is nobody's.
            partial.journal().clear()?;
            contents = Contents::default();
        }
        // Others may be at work by now.
        partial.keep = shard.of > 1 || !contents.entries.is_empty();
        partial.above = begun.fits();
        Ok((partial, contents))
    }

    /// That of a result whose tiles are all done, to be finished.
    pub(super) fn of(place: &Place) -> Partial {
        Partial {
            place: place.clone(),
            shard: Shard::default(),
            journal: None,
            keep: true,
            above: Made::default(),
            _writing: Underway::writing(),
        }
    }

    fn refuse(&self, earlier: &Record, differences: &[String]) -> Error {
        let place = self.place.partial();
        let cure = match (self.shard.of, earlier.shards) {
            (1, 1) => {
                format!("give the same options to go on with that run, or {RESTART} to begin again")
            }
            _ => format!(
                "give every shard the same options, or remove {}{} when none of them runs",
                place.display(),
                if self.place.single() {
                    " and the files beside it whose names begin so"
                } else {
                    ""
                }
            ),
        };
        let message = format!(
            "{} was begun by another command: {}; {cure}",
            place.display(),
            differences.join("; ")
        );
        Error::OtherRun {
            path: place,
            differences: differences.to_vec(),
            remedies: vec![Remedy::Restart],
            message,
        }
    }

    pub(super) fn journal(&self) -> &Journal {
        self.journal
            .as_ref()
            .expect("the list is open until the result is finished")
    }

    /// A tile is done: from here on what is there stays.
    pub(super) fn keep(&mut self) {
        self.keep = true;
    }

    /// Empties the list, and removes what an earlier run left beside it, unless others share the result.
    fn clear(&self) -> Result<()> {
        if self.shard.of > 1 {
            return self.journal().clear();
        }
        let own = self.place.journal(self.shard.index, self.shard.of);
        for other in self.place.journals()?.iter().filter(|&path| *path != own) {
            // Its lock is taken for as long as it takes to know that nobody has it.
            drop(Journal::open(
                other,
                &self.place.partial(),
                Writes::default(),
            )?);
        }
        self.journal().clear()?;
        remove(&self.place, Some(&own))
    }

    /// Writes the plan whole or not at all; one that another shard wrote meanwhile is compared.
    fn write_plan(&self, record: &Record) -> Result<()> {
        let plan = self.place.beside("plan.json");
        let own = with_suffix(
            &plan,
            &format!(".{}-{}", self.shard.index, std::process::id()),
        );
        let text = record.text()?;
        // A process of the same number may have been killed here.
        remove_if_there(&own)?;
        create_new(&own, text.as_bytes()).map_err(Error::io(&own))?;
        // A link fails where the name is taken, and is never half there.
        let placed = std::fs::hard_link(&own, &plan).or_else(|refused| match refused.kind() {
            std::io::ErrorKind::AlreadyExists => Err(refused),
            // File systems without links.
            std::io::ErrorKind::Unsupported | std::io::ErrorKind::PermissionDenied => {
                match self.shard.of {
                    1 => std::fs::rename(&own, &plan),
                    _ => create_new(&plan, text.as_bytes()),
                }
            }
            _ => Err(refused),
        });
        remove_if_there(&own)?;
        match placed {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            placed => placed.map_err(Error::io(&plan))?,
        }
        sync_folder(&parent(&plan))?;
        let Some(there) = Record::read(&plan)? else {
            return Err(Error::file(&plan, "was removed while the run began"));
        };
        let differences = record.differences(&there);
        match differences.is_empty() {
            true => Ok(()),
            false => Err(self.refuse(&there, &differences)),
        }
    }

    /// Leaves everything where it is, durably; the data must be synced already.
    pub(super) fn leave(mut self) -> Result<PathBuf> {
        self.journal().sync()?;
        sync_folder(&parent(&self.place.beside("done")))?;
        sync_folder(&parent(&self.place.target))?;
        self.keep = true;
        Ok(self.place.partial())
    }

    /// Drops all that this process has done, and what there is of a result that it has to itself.
    pub(super) fn discard(mut self) -> Result<()> {
        self.journal().clear()?;
        self.keep = self.shard.of > 1;
        Ok(())
    }

    /// Writes the manifest and gives everything its final name; the data must be synced already.
    ///
    /// The list stays locked until it has: nobody begins anew under a name that is about to be given away.
    pub(super) fn finish(mut self, manifest: &str) -> Result<()> {
        let place = self.place.clone();
        // Hours of work are not thrown away for what goes wrong from here on.
        self.keep = true;
        place.check_target()?;
        let manifest = place
            .manifest()
            .map(|path| Whole::new(&path, manifest.as_bytes()))
            .transpose()?;
        if cfg!(windows) {
            // It renames no folder in which files are open.
            self.journal = None;
        }
        let folder = parent(&place.target);
        if place.single() {
            if place.target.exists() {
                // No older array is to stand beside the new manifest: the new one is whole, under its other name.
                std::fs::remove_file(&place.target).map_err(Error::io(&place.target))?;
                sync_folder(&folder)?;
            }
            // The array last: where it is, the manifest is too.
            manifest.map_or(Ok(()), Whole::place)?;
            rename(&place.partial(), &place.target)?;
        } else {
            manifest.map_or(Ok(()), Whole::place)?;
            sync_folder(&place.partial())?;
            // A folder is not renamed over another: the older result steps aside until the new one stands.
            let aside = place.aside();
            let replaced = place.target.exists();
            if replaced {
                remove_aside(&place)?;
                rename(&place.target, &aside)?;
            }
            if let Err(error) = rename(&place.partial(), &place.target) {
                if replaced {
                    rename(&aside, &place.target)?;
                }
                return Err(error);
            }
        }
        sync_folder(&folder)?;
        tidy(&place)
    }
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    std::fs::rename(from, to).map_err(Error::io(to))
}

/// Removes what a finished result no longer needs: its plan and its lists, and an older result that stepped aside.
pub(super) fn tidy(place: &Place) -> Result<()> {
    if place.single() {
        // Where a result is under way they are that one's.
        if is_there(&place.partial()) {
            return Ok(());
        }
        return place
            .besides(is_beside)?
            .iter()
            .try_for_each(|path| remove_if_there(path));
    }
    remove_aside(place)?;
    let plan = place.target.join("plan.json");
    // Files of these names are a result's own where its plan is there.
    if !Record::read(&plan).is_ok_and(|plan| plan.is_some()) {
        return Ok(());
    }
    let entries = std::fs::read_dir(&place.target).map_err(Error::io(&place.target))?;
    for entry in entries {
        let path = entry.map_err(Error::io(&place.target))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // The plan last, as it says whose the others are.
        if is_beside(&name) && path.is_file() && path != plan {
            remove_if_there(&path)?;
        }
    }
    remove_if_there(&plan)
}

/// Removes an older result that stepped aside.
fn remove_aside(place: &Place) -> Result<()> {
    let aside = place.aside();
    if !is_there(&aside) {
        return Ok(());
    }
    place.check_leftover(&aside)?;
    match std::fs::remove_dir_all(&aside) {
        // Another process may be at it.
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(&aside)(e)),
        _ => Ok(()),
    }
}

/// Removes what is left of a run, but for one file.
fn remove(place: &Place, but: Option<&Path>) -> Result<()> {
    if place.single() {
        let mut all = place.besides(is_beside)?;
        all.push(place.partial());
        for path in all.iter().filter(|path| Some(path.as_path()) != but) {
            remove_if_there(path)?;
        }
        return Ok(());
    }
    let folder = place.partial();
    for entry in std::fs::read_dir(&folder).map_err(Error::io(&folder))? {
        let entry = entry.map_err(Error::io(&folder))?;
        let path = entry.path();
        // Hidden ones are a file system's, which may not let go of them.
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if Some(path.as_path()) == but || is_hidden(&name) && !is_temporary(&name) {
            continue;
        }
        match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            true => std::fs::remove_dir_all(&path).map_err(Error::io(&path))?,
            false => remove_if_there(&path)?,
        }
    }
    Ok(())
}

fn remove_if_there(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path)(e)),
        _ => Ok(()),
    }
}

/// Writes a file that is not there yet, and makes it durable; what cannot be written whole is not left.
fn create_new(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = File::create_new(path)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    written.inspect_err(|_| _ = std::fs::remove_file(path))
}

impl Drop for Partial {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        // Nothing can be done about a failure here; the next run clears what is left. The list goes last: who has it has all.
        let own = self.place.journal(self.shard.index, self.shard.of);
        let _ = remove(&self.place, Some(&own));
        if cfg!(windows) {
            // It removes no file that is open.
            self.journal = None;
        }
        let _ = remove_if_there(&own);
        if !self.place.single() {
            let _ = std::fs::remove_dir(self.place.partial());
        }
    }
}
