-- The aggregates of reports, each in the same part as the rows that it counts. Sites come first, so that one site is
-- read alone.
-- days counts by day: events by their own time (served, solved, retries, challenges, further solves, open solves), and
-- pairs by the time of the serve, -1 in rows without one; open_day is that of an open solve that the serve of the row
-- answered, and -1 in other rows.
-- quarter_hours counts events: quarter hours make the days of every time zone since 1980. solve_times counts pairs by
-- quarter hour and solve time. Solve times are kept in buckets, 64 to an octave, among whose bounds are all limits: the
-- exponent and the first 6 bits of the mantissa of its minutes as a Float64.
ALTER TABLE events
    ADD PROJECTION IF NOT EXISTS days
    (
        SELECT
            site_id,
            intDiv(toUnixTimestamp64Second(time), 86400) AS day,
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
            countIf((repeat = 0) AND (type = 'serve')),
            countIf((repeat = 0) AND (type = 'solve')),
            countIf(repeat = 1),
            countIf(role = 'first'),
            countIf((role = 'again') AND (type = 'solve')),
            countIf(role = 'open'),
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
            countIf(solve_after_micros <= 86400000000)
        GROUP BY
            site_id,
            day,
            serve_day,
            open_day,
            other_month
    ),
    ADD PROJECTION IF NOT EXISTS quarter_hours
    (
        SELECT
            site_id,
            intDiv(toUnixTimestamp64Second(time), 900) AS quarter_hour,
            countIf((repeat = 0) AND (type = 'serve')),
            countIf((repeat = 0) AND (type = 'solve')),
            countIf(repeat = 1),
            countIf(role = 'first'),
            countIf((role = 'again') AND (type = 'solve')),
            countIf(role = 'open')
        GROUP BY
            site_id,
            quarter_hour
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
            toUInt16(
                if(
                    solve_after_micros <= 1,
                    0,
                    bitShiftRight(reinterpretAsUInt64((solve_after_micros - 1) / 60000000), 46) - 63814
                )
            ) AS solve_time,
            count(),
            countIf(solve_after_micros < 0)
        GROUP BY
            site_id,
            serve_quarter_hour,
            open_quarter_hour,
            other_month,
            solve_time
    )
