-- What each event is in its challenge, as docs/reports.md has it. role: 'first', 'again', 'answer' or 'open', and empty
-- for repeats, for rows that are not events, and for rows of an older captcha, which have 0 as rules.
-- The later row of a pair has solve_after_micros, the time of the solve minus the time of the serve, and other_month,
-- the month (toYYYYMM) in which the earlier row arrived, which may have been dropped since; 0 in rows without a pair.
ALTER TABLE events
    ADD COLUMN IF NOT EXISTS role LowCardinality(String) CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS solve_after_micros Int64 CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS other_month UInt32 CODEC(T64('bit'), ZSTD(1)),
    ADD COLUMN IF NOT EXISTS rules UInt8 CODEC(ZSTD(1))
