//! Kinora, the server. `src/README.md` has the map.
