-- The aggregates of reports, each in the same part as the rows that it counts. Sites come first, so that one site is
-- read alone.
-- days and quarter_hours count events by their own time: served, solved, retries, challenges, further solves, open
-- solves. Quarter hours make the days of every time zone since 1980.
-- pair_days and solve_times count pairs by the time of the serve; rows without a pair have -1 there. open_day and
-- open_quarter_hour are those of an open solve that the serve of the row answered, and -1 otherwise.
-- A solve time is kept in buckets, 64 to an octave: the exponent and the first 6 bits of the mantissa of its
-- microseconds as a Float64.
ALTER TABLE events
    ADD PROJECTION IF NOT EXISTS days
    (
        SELECT
            site_id,
            intDiv(toUnixTimestamp64Second(time), 86400) AS day,
            countIf((kind = 'event') AND (repeat = 0) AND (type = 'serve')),
            countIf((kind = 'event') AND (repeat = 0) AND (type = 'solve')),
            countIf(repeat = 1),
            countIf(role = 'first'),
            countIf((role = 'again') AND (type = 'solve')),
            countIf(role = 'open')
        GROUP BY
            site_id,
            day
    ),
    ADD PROJECTION IF NOT EXISTS quarter_hours
    (
        SELECT
            site_id,
            intDiv(toUnixTimestamp64Second(time), 900) AS quarter_hour,
            countIf((kind = 'event') AND (repeat = 0) AND (type = 'serve')),
            countIf((kind = 'event') AND (repeat = 0) AND (type = 'solve')),
            countIf(repeat = 1),
            countIf(role = 'first'),
            countIf((role = 'again') AND (type = 'solve')),
            countIf(role = 'open')
        GROUP BY
            site_id,
            quarter_hour
    ),
    ADD PROJECTION IF NOT EXISTS pair_days
    (
        SELECT
            site_id,
            if(
                other_month = 0,
                -1,
                intDiv(toUnixTimestamp64Micro(time) - if(type = 'solve', solve_after_micros, 0), 86400000000)
            ) AS serve_day,
            if(
                (other_month = 0) OR (type = 'solve'),
                -1,
                intDiv(toUnixTimestamp64Micro(time) + solve_after_micros, 86400000000)
            ) AS open_day,
            other_month,
            count(),
            countIf(solve_after_micros < 0),
            countIf(solve_after_micros <= 60000000),
            countIf(solve_after_micros <= 120000000),
            countIf(solve_after_micros <= 300000000),
            countIf(solve_after_micros <= 600000000),
            countIf(solve_after_micros <= 900000000),
            countIf(solve_after_micros <= 1800000000),
            countIf(solve_after_micros <= 3600000000),
            countIf(solve_after_micros <= 7200000000),
            countIf(solve_after_micros <= 21600000000),
            countIf(solve_after_micros <= 86400000000),
            sumMap(map(
                toUInt16(
                    if(
                        solve_after_micros <= 0,
                        0,
                        bitShiftRight(reinterpretAsUInt64(toFloat64(solve_after_micros)), 46) - 65471
                    )
                ),
                toUInt64(1)
            ))
        GROUP BY
            site_id,
            serve_day,
            open_day,
            other_month
    ),
    ADD PROJECTION IF NOT EXISTS solve_times
    (
        SELECT
            site_id,
            if(
                other_month = 0,
                -1,
                intDiv(toUnixTimestamp64Micro(time) - if(type = 'solve', solve_after_micros, 0), 900000000)
            ) AS serve_quarter_hour,
            if(
                (other_month = 0) OR (type = 'solve'),
                -1,
                intDiv(toUnixTimestamp64Micro(time) + solve_after_micros, 900000000)
            ) AS open_quarter_hour,
            other_month,
            toUInt8(
                (solve_after_micros <= 60000000)
                + (solve_after_micros <= 120000000)
                + (solve_after_micros <= 300000000)
                + (solve_after_micros <= 600000000)
                + (solve_after_micros <= 900000000)
                + (solve_after_micros <= 1800000000)
                + (solve_after_micros <= 3600000000)
                + (solve_after_micros <= 7200000000)
                + (solve_after_micros <= 21600000000)
                + (solve_after_micros <= 86400000000)
            ) AS limits_kept,
            toUInt16(
                if(
                    solve_after_micros <= 0,
                    0,
                    bitShiftRight(reinterpretAsUInt64(toFloat64(solve_after_micros)), 46) - 65471
                )
            ) AS solve_time,
            count(),
            countIf(solve_after_micros < 0)
        GROUP BY
            site_id,
            serve_quarter_hour,
            open_quarter_hour,
            other_month,
            limits_kept,
            solve_time
    )
