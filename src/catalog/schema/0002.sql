-- control.db, format 2. What retention dropped is said by position too: server times stand still after a clock was set back, and
-- then do not tell what was to go from what was to stay.

ALTER TABLE stream ADD COLUMN dropped_epoch INTEGER;
ALTER TABLE stream ADD COLUMN dropped_sequence INTEGER;
