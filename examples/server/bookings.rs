//! Sample bookings, a page at a time.

use axum::Json;
use axum::extract::Query;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::failure::{Failure, Told};

const SAMPLES: i64 = 120;
const DEFAULT_LIMIT: usize = 10;
const MOST: usize = 100;

struct Booking {
    id: String,
    subject: String,
    status: &'static str,
    starting_time: Timestamp,
    last_updated_time: Timestamp,
}

impl Booking {
    fn sample(number: i64) -> Self {
        let first = Timestamp::from_second(1_769_850_000).unwrap_or(Timestamp::UNIX_EPOCH);
        let updated = first + SignedDuration::from_mins(47 * number);
        Self {
            id: format!("BKNG-{number:06}"),
            subject: format!("Consultation {number}"),
            status: match number % 4 {
                0 => "scheduled",
                1 => "rescheduled",
                2 => "canceled",
                _ => "completed",
            },
            starting_time: updated + SignedDuration::from_hours(72),
            last_updated_time: updated,
        }
    }

    fn to_json(&self) -> Value {
        json!({
            "object": "booking",
            "id": self.id,
            "subject": self.subject,
            "status": self.status,
            "starting_time": format!("{:.3}", self.starting_time),
            "last_updated_time": format!("{:.3}", self.last_updated_time),
        })
    }
}

/// What a client may ask for.
struct Page {
    limit: usize,
    after: Option<String>,
    updated_after: Option<Timestamp>,
}

impl Page {
    fn parse(query: impl IntoIterator<Item = (String, String)>) -> Result<Self, Failure> {
        let (mut limit, mut after, mut updated_after) = (None, None, None);
        for (name, value) in query {
            let repeated = match name.as_str() {
                "limit" => limit.replace(parse_limit(&value)?).is_some(),
                "after" => after.replace(parse_id(value)?).is_some(),
                "last_updated_time.gt" => updated_after.replace(parse_time(&value)?).is_some(),
                _ => return Err(Failure::invalid(&name, "There is no such parameter.")),
            };
            if repeated {
                return Err(Failure::invalid(&name, "The parameter was given more than once."));
            }
        }
        Ok(Self { limit: limit.unwrap_or(DEFAULT_LIMIT), after, updated_after })
    }

    fn wants(&self, booking: &Booking) -> bool {
        self.after.as_ref().is_none_or(|after| booking.id > *after)
            && self.updated_after.is_none_or(|time| booking.last_updated_time > time)
    }

    fn link_after(&self, last: &Booking) -> String {
        let Self { limit, updated_after, .. } = self;
        let filter = updated_after.map(|time| format!("&last_updated_time.gt={time}"));
        let filter = filter.unwrap_or_default();
        format!(r#"</v2/bookings?limit={limit}&after={}{filter}>; rel="next""#, last.id)
    }
}

fn parse_limit(text: &str) -> Result<usize, Failure> {
    text.parse()
        .ok()
        .filter(|limit| (1..=MOST).contains(limit))
        .ok_or_else(|| Failure::invalid("limit", format!("A number from 1 to {MOST}.")))
}

fn parse_id(text: String) -> Result<String, Failure> {
    let digits = text.strip_prefix("BKNG-").filter(|digits| digits.len() == 6);
    if digits.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit())) {
        Ok(text)
    } else {
        Err(Failure::invalid("after", "The id of the last booking of the page before."))
    }
}

fn parse_time(text: &str) -> Result<Timestamp, Failure> {
    text.parse().map_err(|_| {
        Failure::invalid("last_updated_time.gt", "A time such as 2026-01-31T09:30:00.000Z.")
    })
}

/// A page of bookings.
pub(crate) struct Found {
    pub(crate) data: Vec<Value>,
    /// The `after` of the next page, if there is one.
    pub(crate) next: Option<String>,
    link: Option<String>,
}

pub(crate) fn find(query: impl IntoIterator<Item = (String, String)>) -> Result<Found, Failure> {
    let page = Page::parse(query)?;
    let mut found = (1..=SAMPLES).map(Booking::sample).filter(|booking| page.wants(booking));
    let shown: Vec<Booking> = found.by_ref().take(page.limit).collect();
    let last = shown.last().filter(|_| found.next().is_some());
    Ok(Found {
        data: shown.iter().map(Booking::to_json).collect(),
        next: last.map(|last| last.id.clone()),
        link: last.map(|last| page.link_after(last)),
    })
}

/// A booking.
#[derive(utoipa::ToSchema)]
#[schema(as = Booking)]
#[allow(dead_code, reason = "a description of `to_json`")]
pub(crate) struct BookingView {
    object: String,
    id: String,
    subject: String,
    status: String,
    #[schema(format = DateTime)]
    starting_time: String,
    #[schema(format = DateTime)]
    last_updated_time: String,
}

/// A page of bookings, as it is described.
#[derive(utoipa::ToSchema)]
#[schema(as = BookingList)]
#[allow(dead_code, reason = "a description")]
pub(crate) struct BookingListView {
    object: String,
    data: Vec<BookingView>,
}

/// Lists bookings, in order of their ids.
#[utoipa::path(get, path = "/v2/bookings", security(("ApiKey" = [])), tag = "Bookings",
    params(
        ("limit" = Option<u8>, Query, minimum = 1, maximum = 100),
        ("after" = Option<String>, Query, pattern = "^BKNG-[0-9]{6}$"),
        ("last_updated_time.gt" = Option<String>, Query, format = DateTime),
    ),
    responses(
        (status = 200, description = "A page of them", body = BookingListView,
            headers(("Link" = Option<String>, description = "The next page, `rel=\"next\"`, while there is one"))),
        (status = 400, description = "A parameter that cannot be meant", body = Told),
    ))]
pub(crate) async fn list(
    query: Result<Query<Vec<(String, String)>>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Failure> {
    let query = query
        .map_err(|rejection| Failure::request(rejection.status(), "The query cannot be read."))?;
    let found = find(query.0)?;
    let mut response = Json(json!({ "object": "list", "data": found.data })).into_response();
    if let Some(link) = found.link {
        let link = HeaderValue::try_from(link).map_err(|error| Failure::internal(&error))?;
        response.headers_mut().insert(header::LINK, link);
    }
    Ok(response)
}
