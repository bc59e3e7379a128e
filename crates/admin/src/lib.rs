//! Every administrative operation as one typed function, shared by the command line and the console.
