//! Which handler a request is for, and what is answered when there is none: as NSQ's router
//! (httprouter) decides it.

/// A method and a path, and what they stand for.
#[derive(Debug, Clone, Copy)]
pub struct Route<T> {
    /// In capitals.
    pub method: &'static str,
    /// Exact, without parameters.
    pub path: &'static str,
    /// The caller's own word for the handler.
    pub to: T,
}

/// What [`find`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found<T> {
    /// This handler.
    Handler(T),
    /// OPTIONS on a known path: 200, with this as `Allow`.
    Options {
        /// Methods, comma separated.
        allow: String,
    },
    /// A known path but not this method: 405, with this as `Allow`.
    MethodNotAllowed {
        /// Methods, comma separated.
        allow: String,
    },
    /// The path is known with other capitals or another slash at its end: this status, with this as
    /// `Location` (the caller appends the query).
    Redirect {
        /// 301 for GET, else 307, so that the method is kept.
        status: u16,
        /// The path as it is known.
        path: &'static str,
    },
    /// 404.
    NotFound,
}

/// Looks a request up.
pub fn find<T: Copy>(routes: &[Route<T>], method: &str, path: &str) -> Found<T> {
    if let Some(route) = routes
        .iter()
        .find(|route| route.method == method && route.path == path)
    {
        return Found::Handler(route.to);
    }
    let trimmed = path.strip_suffix('/').unwrap_or(path);
    let nearly = |route: &&Route<T>| {
        route.method == method && !trimmed.is_empty() && route.path.eq_ignore_ascii_case(trimmed)
    };
    if let Some(route) = routes.iter().find(nearly) {
        let status = if method == "GET" { 301 } else { 307 };
        return Found::Redirect {
            status,
            path: route.path,
        };
    }
    let mut methods: Vec<&str> = routes
        .iter()
        .filter(|route| route.path == path && route.method != method)
        .map(|route| route.method)
        .collect();
    if methods.is_empty() {
        return Found::NotFound;
    }
    methods.push("OPTIONS");
    methods.sort_unstable();
    methods.dedup();
    let allow = methods.join(", ");
    if method == "OPTIONS" {
        Found::Options { allow }
    } else {
        Found::MethodNotAllowed { allow }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTES: &[Route<u8>] = &[
        Route {
            method: "GET",
            path: "/ping",
            to: 1,
        },
        Route {
            method: "POST",
            path: "/topic/create",
            to: 2,
        },
    ];

    #[test]
    fn a_request_finds_its_handler_by_method_and_path() {
        assert_eq!(find(ROUTES, "GET", "/ping"), Found::Handler(1));
        assert_eq!(find(ROUTES, "POST", "/topic/create"), Found::Handler(2));
        assert_eq!(find(ROUTES, "GET", "/"), Found::NotFound);
        assert_eq!(find(ROUTES, "GET", "/nothing"), Found::NotFound);
    }

    #[test]
    fn another_method_gets_the_allowed_ones() {
        let allow = "OPTIONS, POST".to_owned();
        let refused = Found::MethodNotAllowed {
            allow: allow.clone(),
        };
        assert_eq!(find(ROUTES, "GET", "/topic/create"), refused);
        assert_eq!(
            find(ROUTES, "OPTIONS", "/topic/create"),
            Found::Options { allow }
        );
    }

    #[test]
    fn a_slash_too_many_or_other_capitals_redirect() {
        assert_eq!(
            find(ROUTES, "GET", "/ping/"),
            Found::Redirect {
                status: 301,
                path: "/ping"
            }
        );
        assert_eq!(
            find(ROUTES, "POST", "/Topic/Create"),
            Found::Redirect {
                status: 307,
                path: "/topic/create"
            }
        );
    }
}
