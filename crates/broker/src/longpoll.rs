//! longpoll
